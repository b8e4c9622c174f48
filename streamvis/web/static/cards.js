// The grid of the live page: a card for each source, with a small picture and its state.

import { element } from "/static/dom.js";
import { sourceAddress } from "/static/state.js";
import { Thumbnail } from "/static/thumbnail.js";

class SourceCard {
  constructor(id) {
    this.item = element("li");
    this.link = element("a", undefined, "card");
    this.link.href = sourceAddress(id);
    this.canvas = element("canvas");
    this.canvas.width = 480;
    this.canvas.height = 270;
    this.canvas.ariaHidden = "true";
    this.name = element("strong", id);
    this.chip = element("span");
    this.since = element("span", "", "quiet");
    this.facts = element("span", "", "facts");
    this.last = element("span", "", "last quiet");
    const head = element("span", undefined, "head");
    head.append(this.name, this.chip, this.since);
    this.link.append(this.canvas, head, this.facts, this.last);
    this.item.append(this.link);
    this.thumbnail = new Thumbnail(id, this.canvas);
  }

  draw(facts) {
    this.link.title = facts.label;
    this.chip.textContent = facts.state;
    this.chip.className = `chip ${facts.state}`;
    this.canvas.className = facts.state;
    this.since.textContent = facts.since;
    const people = facts.people === 1 ? "1 person" : `${facts.people} people`;
    const words = [
      facts.people === null ? "" : people,
      facts.fps === null ? "" : `${facts.fps.toFixed(1)} frames/s`,
      facts.age === null ? "" : `age ${facts.age} ms`,
      facts.dropped ? `${facts.dropped} dropped` : "",
    ];
    this.facts.textContent = words.filter(Boolean).join(" · ");
    this.last.textContent = facts.last;
    this.thumbnail.update(facts.state, facts.next);
  }
}

export class SourceCards {
  constructor(list) {
    this.list = list;
    this.cards = new Map(); // by id of the source
    this.observer = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        const found = [...this.cards.values()].find((card) => card.item === target);
        found?.thumbnail.show(isIntersecting);
      }
    });
    list.addEventListener("keydown", (event) => this.move(event));
  }

  // The cards stay as they are, with their pictures; only what they say is written anew.
  draw(sources) {
    const ids = new Set(sources.map((one) => one.id));
    for (const [id, card] of this.cards) {
      if (ids.has(id)) continue;
      this.observer.unobserve(card.item);
      card.thumbnail.show(false);
      card.item.remove();
      this.cards.delete(id);
    }
    sources.forEach((facts, at) => {
      let card = this.cards.get(facts.id);
      if (!card) {
        card = new SourceCard(facts.id);
        this.cards.set(facts.id, card);
        this.observer.observe(card.item);
      }
      card.draw(facts);
      const there = this.list.children[at];
      if (there !== card.item) this.list.insertBefore(card.item, there ?? null);
    });
  }

  move(event) {
    const links = [...this.list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const rows = links.filter((link) => link.offsetTop === links[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -rows, ArrowDown: rows }[event.key];
    if (step === undefined || at < 0) return;
    links[at + step]?.focus();
    event.preventDefault();
  }

  // Go to the first card, from wherever the keyboard is.
  focus() {
    this.list.querySelector("a")?.focus();
  }
}
