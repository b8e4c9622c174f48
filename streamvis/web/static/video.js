// Live pictures of a source, each with the tracks of its own frame.
//
// A picture waits for the tracks of its (stream_epoch, media_us), then both are painted together in
// an animation frame and the picture is acknowledged: the server sends the next one at the pace at
// which they are painted. A page that is hidden is disconnected.

import { paletteOf } from "/static/class_colours.js";

export const HEADER_BYTES = 33;
export const HOLD_MS = 250;
const KEPT = 64; // frames whose tracks have come before their picture
const RETRY_MS = [1000, 2000, 5000, 10000];
const PICTURE = 1;
const TRACKS = 3;
const MASK = 4;

// A binary message: little endian, packed.
export function parse(buffer) {
  if (buffer.byteLength < HEADER_BYTES) return null;
  const data = new DataView(buffer);
  return {
    kind: data.getUint8(0),
    stream_epoch: data.getUint32(1, true),
    seq: Number(data.getBigUint64(5, true)),
    media_us: Number(data.getBigInt64(13, true)),
    capture_us: Number(data.getBigInt64(21, true)),
    width: data.getUint16(29, true), // of the source frame
    height: data.getUint16(31, true),
    payload: new Uint8Array(buffer, HEADER_BYTES),
  };
}

// Which picture is due, and with which tracks. Times are given by the caller, in ms.
export class FramePairs {
  constructor() {
    this.pictures = []; // { frame, bitmap, until }, in order of arrival
    this.tracks = new Map(); // `stream_epoch:media_us` -> tracks
    this.hold = HOLD_MS; // that a picture waits for its tracks
    this.painted = null; // frame of the last picture that was due
  }

  // Decoding may change the order. Returns whether the picture may still be painted.
  addPicture(frame, bitmap, now) {
    if (this.painted && inOrder(frame, this.painted) <= 0) return false;
    this.pictures.push({ frame, bitmap, until: now + this.hold });
    this.pictures.sort((a, b) => inOrder(a.frame, b.frame));
    return true;
  }

  addTracks(frame, tracks) {
    this.tracks.set(keyOf(frame), tracks);
    while (this.tracks.size > KEPT) this.tracks.delete(this.tracks.keys().next().value);
  }

  // The newest picture that is complete or has waited for long enough, and those it overtakes.
  // `tracks` is null when none have come.
  due(now) {
    const ready = ({ frame, until }) => this.tracks.has(keyOf(frame)) || now >= until;
    const at = this.pictures.findLastIndex(ready);
    if (at < 0) return null;
    const taken = this.pictures.splice(0, at + 1);
    const { frame, bitmap } = taken.pop();
    const tracks = this.tracks.get(keyOf(frame)) ?? null;
    this.painted = frame;
    return { frame, bitmap, tracks, overtaken: taken };
  }

  clear() {
    for (const { bitmap } of this.pictures) bitmap.close();
    this.pictures = [];
    this.tracks.clear();
    this.painted = null;
  }
}

function inOrder(a, b) {
  return a.stream_epoch - b.stream_epoch || a.seq - b.seq;
}

function keyOf({ stream_epoch: epoch, media_us: media }) {
  return `${epoch}:${media}`;
}

// The class of every pixel: { labels, bitmap }, in the colours of the classes. The payload is the
// length of a JSON object, the object, then a grey PNG with the number of the class.
async function maskOf(payload) {
  const data = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const start = 2 + data.getUint16(0, true);
  const { labels } = JSON.parse(new TextDecoder().decode(payload.subarray(2, start)));
  const png = new Blob([payload.subarray(start)], { type: "image/png" });
  const grey = await createImageBitmap(png, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(grey.width, grey.height);
  const context = canvas.getContext("2d");
  context.drawImage(grey, 0, 0);
  grey.close();
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const bytes = new DataView(image.data.buffer);
  const colours = paletteOf(labels).map((one) => (parseInt(one.slice(1), 16) << 8) | 0xff);
  for (let at = 0; at < image.data.length / 4; at += 1) {
    bytes.setUint32(4 * at, colours[image.data[4 * at]] ?? 0);
  }
  context.putImageData(image, 0, 0);
  return { labels, bitmap: canvas.transferToImageBitmap() };
}

// Calls paint({ frame, bitmap, tracks }) for each picture, which closes the bitmap, and
// say(pictures, boxes) with why none come, when that changes; at most
// `mostPerSecond` pictures; mask({ frame, labels, bitmap }) where the run sends masks. Returns a
// function that ends it.
export function watch(source, { mostPerSecond = Infinity, paint, say = () => {}, mask }) {
  const pairs = new FramePairs();
  const gap = 1000 / mostPerSecond;
  let socket = null;
  let failures = 0;
  let asked = 0; // animation frame
  let nextAck = 0;
  let timer;
  let over = false;

  function acknowledge(to, seq) {
    const now = performance.now();
    nextAck = Math.max(now, nextAck + gap);
    const send = () => to.readyState === WebSocket.OPEN && to.send(JSON.stringify({ ack: seq }));
    if (nextAck - now < 1) send();
    else setTimeout(send, nextAck - now);
  }

  function look() {
    asked = 0;
    const due = pairs.due(performance.now());
    if (due) {
      paint(due);
      for (const { frame, bitmap } of due.overtaken) {
        bitmap.close();
        acknowledge(socket, frame.seq);
      }
      acknowledge(socket, due.frame.seq);
    }
    if (pairs.pictures.length) ask();
  }

  function ask() {
    if (!asked && !over) asked = requestAnimationFrame(look);
  }

  async function take(from, buffer) {
    const frame = parse(buffer);
    if (frame?.kind === TRACKS) {
      pairs.addTracks(frame, JSON.parse(new TextDecoder().decode(frame.payload)).tracks);
    } else if (frame?.kind === MASK && mask) {
      const found = await maskOf(frame.payload);
      if (from === socket) mask({ frame, ...found });
      return;
    } else if (frame?.kind === PICTURE) {
      const received = performance.now();
      const jpeg = new Blob([frame.payload], { type: "image/jpeg" });
      const bitmap = await createImageBitmap(jpeg).catch(() => null);
      const wanted = from === socket && bitmap !== null;
      if (!wanted || !pairs.addPicture(frame, bitmap, received)) {
        bitmap?.close();
        acknowledge(from, frame.seq); // it is damaged or late: go on to the next
        return;
      }
    }
    ask();
  }

  function takeState({ state, reason, without_tracks: without }) {
    pairs.hold = without ? 0 : HOLD_MS;
    const why = reason || (state === "over" ? "no run is under way" : "no pictures yet");
    say(state === "live" ? "" : why, without ? `no boxes: ${without}` : "");
  }

  function open() {
    if (over || document.hidden || socket) return;
    const address = new URL(`/ws/video/${encodeURIComponent(source)}`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const line = new WebSocket(address);
    line.binaryType = "arraybuffer";
    line.onmessage = ({ data }) => {
      failures = 0;
      if (data instanceof ArrayBuffer) take(line, data).catch(() => line.close());
      else takeState(JSON.parse(data));
    };
    line.onclose = ({ reason }) => {
      if (socket !== line) return;
      close();
      say(reason || "no live pictures");
      timer = setTimeout(open, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
      failures += 1;
    };
    socket = line;
  }

  function close() {
    clearTimeout(timer);
    const line = socket;
    socket = null;
    line?.close();
    pairs.clear();
    cancelAnimationFrame(asked);
    asked = 0;
  }

  function shownOrHidden() {
    if (document.hidden) close();
    else open();
  }

  document.addEventListener("visibilitychange", shownOrHidden);
  open();
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", shownOrHidden);
    close();
  };
}
