// Elements of a page. Text of events and names of sources is text, never markup.

export const byId = (id) => document.getElementById(id);

export function element(name, text, className) {
  const found = document.createElement(name);
  if (text !== undefined) found.textContent = text;
  if (className) found.className = className;
  return found;
}

// Fill a list with an element for each item, in order. Those that are there by the same key stay,
// with the focus that they may have.
export function refill(list, items, keyOf, make) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const key = keyOf(item);
    let child = known.get(key);
    known.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (list.children[at] !== child) list.insertBefore(child, list.children[at] ?? null);
  });
  for (const child of known.values()) child.remove();
}
