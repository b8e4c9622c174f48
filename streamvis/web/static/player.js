// Looking back at a source: a slider of media time, play, pause, and steps by one picture.

import { byId } from "/static/dom.js";
import { Replay } from "/static/replay.js";

const BEHIND_US = 1e6; // when pictures come slower than they were taken, playing goes on from here
const AGAIN_MS = 2000; // after a picture could not be had, while playing
const INSTANT_US = 1000; // a step of the slider

export function clockOf(us) {
  const ms = Math.floor(us / 1000);
  const pad = (value, width = 2) => String(value).padStart(width, "0");
  const [h, m, s] = [Math.floor(ms / 3.6e6), Math.floor(ms / 6e4) % 60, Math.floor(ms / 1000) % 60];
  return `${pad(h)}:${pad(m)}:${pad(s)}.${pad(ms % 1000, 3)}`;
}

export class Player {
  // Calls show({ bitmap, width, height, media_us, … }); the bitmap is null where there is no
  // picture, and is closed by who takes it.
  constructor(source, show) {
    this.source = source;
    this.show = show;
    this.onNotice = () => {};
    this.replay = new Replay(source);
    this.position = 0; // media time of what is shown
    this.playing = false;
    this.wanted = null; // media time that is to be shown next
    this.busy = false;
    this.retryAt = 0;
    this.scanning = false;
    this.listen();
  }

  listen() {
    byId("at").addEventListener("input", () => {
      this.pause();
      this.retryAt = 0;
      this.seek(byId("at").value * INSTANT_US);
    });
    byId("play").addEventListener("click", () => this.toggle());
    byId("back").addEventListener("click", () => this.step(-1));
    byId("forward").addEventListener("click", () => this.step(1));
  }

  async open(logged, at) {
    try {
      await this.replay.open(logged);
      this.drawRange();
      await this.seek(at ?? this.replay.first);
      await this.scan();
    } catch (error) {
      this.onNotice(error.message);
    }
  }

  async grow(logged) {
    if (!logged || logged.next === this.replay.next || !this.replay.next) return;
    try {
      await this.replay.grow(logged.next);
      this.drawRange();
      await this.scan();
    } catch {
      // the next look asks again
    }
  }

  // Have corrections, zones and lines of the whole log, then show the picture with them.
  async scan() {
    if (this.scanning) return;
    this.scanning = true;
    try {
      while (await this.replay.scan());
      if (this.replay.settle() && !this.playing) await this.seek(this.position);
    } finally {
      this.scanning = false;
    }
  }

  close() {
    this.pause();
    this.wanted = null;
  }

  // Show a time; of several that are asked for meanwhile, the last one.
  async seek(us) {
    this.wanted = this.replay.inside(us);
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.wanted !== null) {
        const wanted = this.wanted;
        this.wanted = null;
        await this.showAt(wanted);
      }
    } catch (error) {
      this.pause();
      this.onNotice(error.message);
    } finally {
      this.busy = false;
    }
  }

  async showAt(us) {
    await this.replay.load(us);
    const picture = await this.pictureAt(Math.round(us));
    const now = picture?.media_us ?? this.replay.pictureTime(us);
    await this.replay.load(now);
    this.replay.at(now);
    const size = picture ?? this.replay.scene.size ?? { width: 16, height: 9 };
    this.position = now;
    this.show({
      bitmap: picture?.bitmap ?? null,
      width: size.width,
      height: size.height,
      media_us: now,
      capture_us: 0,
      boxes: [],
      complete: true,
    });
    this.drawPosition();
  }

  async pictureAt(us) {
    if (performance.now() < this.retryAt) return null;
    const path = `/api/picture/${encodeURIComponent(this.source)}?media_us=${us}`;
    const answer = await fetch(path);
    if (!answer.ok) {
      this.retryAt = this.playing ? performance.now() + AGAIN_MS : 0;
      const said = await answer.json().catch(() => null);
      this.onNotice(`no picture: ${said?.error?.message ?? answer.statusText}`);
      return null;
    }
    const media = Number(answer.headers.get("X-Streamvis-Media-Us"));
    const bitmap = await createImageBitmap(await answer.blob());
    const size = (answer.headers.get("X-Streamvis-Size") ?? "").split("x").map(Number);
    const [width, height] = size.length === 2 && size.every((px) => px > 0)
      ? size
      : [bitmap.width, bitmap.height];
    this.onNotice("");
    return { bitmap, width, height, media_us: media };
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  pause() {
    this.playing = false;
    byId("play").textContent = "Play";
  }

  async play() {
    this.playing = true;
    byId("play").textContent = "Pause";
    if (this.position >= this.replay.last) await this.seek(this.replay.first);
    let [media, wall] = [this.position, performance.now()];
    while (this.playing) {
      const now = media + (performance.now() - wall) * 1000;
      if (now - this.position > BEHIND_US + this.replay.period) {
        [media, wall] = [this.position + this.replay.period, performance.now()];
      } else if (now >= this.replay.step(this.position, 1) || now >= this.replay.last) {
        await this.seek(now);
      }
      if (this.position >= this.replay.last - this.replay.period / 2) this.pause();
      else await new Promise(requestAnimationFrame);
    }
  }

  step(direction) {
    this.pause();
    this.retryAt = 0;
    return this.seek(this.replay.step(this.position, direction));
  }

  drawRange() {
    const slider = byId("at");
    slider.min = Math.floor(this.replay.first / INSTANT_US);
    slider.max = Math.ceil(this.replay.last / INSTANT_US);
    this.drawPosition();
  }

  drawPosition() {
    const text = clockOf(this.position);
    byId("at").value = this.position / INSTANT_US;
    byId("at").setAttribute("aria-valuetext", text);
    const clock = this.replay.wallClock(this.position);
    const day = clock === null ? "" : ` · ${new Date(clock).toLocaleString([], { hour12: false })}`;
    byId("time").textContent = `${text} / ${clockOf(this.replay.last)}${day}`;
  }
}
