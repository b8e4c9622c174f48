// Elements of a page. Text of events and names of sources is text, never markup.

export const byId = (id) => document.getElementById(id);

export function element(name, text, className) {
  const found = document.createElement(name);
  if (text !== undefined) found.textContent = text;
  if (className) found.className = className;
  return found;
}
