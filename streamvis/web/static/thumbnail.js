// A small picture of a source: live at a low rate while it is visible, or one of its recording.

import { ask } from "/static/api.js";
import { drawOverlay } from "/static/overlay.js";
import { watch } from "/static/video.js";

const MOST_PER_S = 2;
const LAYERS = { boxes: true };
const PICTURED = ["online", "stalled", "connecting"]; // states in which there may be live pictures

export class Thumbnail {
  constructor(source, canvas) {
    this.source = source;
    this.canvas = canvas;
    this.visible = false;
    this.live = false;
    this.next = null; // offset after its last event
    this.asked = false; // for a recorded picture
    this.stop = null; // ends the live pictures
  }

  // `state` is that of the source, `next` the offset after its last event, if any.
  update(state, next) {
    this.live = PICTURED.includes(state);
    this.next = next || null;
    this.look();
  }

  show(visible) {
    this.visible = visible;
    this.look();
  }

  look() {
    const wanted = this.visible && this.live;
    if (wanted && !this.stop) {
      const paint = (due) => this.paint(due);
      this.stop = watch(this.source, { mostPerSecond: MOST_PER_S, paint });
    } else if (!wanted && this.stop) {
      this.stop();
      this.stop = null;
    }
    if (this.visible && this.next !== null && !this.asked) {
      this.asked = true;
      this.recorded(this.next).catch(() => {}); // a card without a picture
    }
  }

  paint({ frame, bitmap, tracks }) {
    this.draw(bitmap, frame.width, frame.height, tracks ?? []);
  }

  draw(bitmap, width, height, tracks) {
    const { canvas } = this;
    const size = [canvas.clientWidth, (canvas.clientWidth * height) / width]
      .map((px) => Math.max(1, Math.round(px * devicePixelRatio)));
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, ...size);
    bitmap.close();
    const view = { scale: size[0] / width, unit: devicePixelRatio, width, height };
    drawOverlay(context, { tracks }, view, LAYERS);
    canvas.dataset.pictures = Number(canvas.dataset.pictures ?? 0) + 1;
  }

  // Half way through what is logged of a file, where more is to be seen than at its ends; until
  // there is a live picture.
  async recorded(next) {
    const given = { source: this.source, limit: "1" };
    const page = (query) => ask("GET", `/api/events?${new URLSearchParams({ ...given, ...query })}`);
    const [online] = (await page({ types: "source.online" })).events;
    if (!online || online.stream.live) return;
    const [last] = (await page({ cursor: String(next - 1) })).events;
    const at = Math.round((last?.time.media_us ?? 0) / 2);
    const path = `/api/picture/${encodeURIComponent(this.source)}?media_us=${at}`;
    const answer = await fetch(path);
    if (!answer.ok) return;
    const bitmap = await createImageBitmap(await answer.blob());
    if (this.canvas.dataset.pictures) return;
    this.draw(bitmap, bitmap.width, bitmap.height, []);
  }
}
