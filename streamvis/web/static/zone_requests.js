// What the zones page asks of the server.

import { ApiError, ask } from "/static/api.js";

const BLANK = { width: 1280, height: 720 };
const MOST_PAGES = 500; // of the log, in which the last zones are looked for
let shown = ""; // address of the picture

export async function schemas() {
  const { components } = await ask("GET", "/api/openapi.json");
  return { zone: components.schemas.Zone, line: components.schemas.Line };
}

export async function sourceIds() {
  const { sources } = await ask("GET", "/api/sources");
  return sources.map((one) => one.id);
}

// The zones of a source: of the run, or the last ones in its log. `before`: as it was asked before.
export async function loaded(source, before) {
  const status = await ask("GET", "/api/status");
  let why = "The run is over.";
  if (status.live) {
    try {
      const { sources } = await ask("GET", "/api/zones");
      const own = sources.find((one) => one.id === source);
      if (own) return { ...own, live: true, plane: own.ground_plane };
      why = `Source '${source}' has ended.`;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 409) throw error;
      why = `${error.message}.`;
    }
  }
  if (before && !before.live) return before;
  const event = await lastLayout(source, status);
  return {
    live: false,
    why,
    layout: event?.zone ?? { zones: [], lines: [] },
    revision: "",
    media_us: event?.time.media_us,
    plane: null,
  };
}

async function lastLayout(source, status) {
  if (!status.log.some((one) => one.id === source)) return null;
  let found = null;
  let cursor = "";
  for (let pages = 0; cursor !== null && pages < MOST_PAGES; pages += 1) {
    const from = cursor && `&cursor=${cursor}`;
    const page = await ask("GET", `/api/events?source=${source}&types=zone.layout&limit=1000${from}`);
    found = page.events.at(-1) ?? found;
    cursor = page.next;
  }
  return found;
}

// { address, width, height, why }: the newest picture of a source, or a blank of its size.
export async function pictureOf(source, state) {
  const at = state.live ? "" : `?media_us=${state.media_us ?? 0}`;
  const answer = await fetch(`/api/picture/${source}${at}`);
  if (shown) URL.revokeObjectURL(shown);
  shown = "";
  if (answer.ok) {
    const size = /^(\d+)x(\d+)$/.exec(answer.headers.get("X-Streamvis-Size") ?? "");
    const picture = await answer.blob();
    const bitmap = await createImageBitmap(picture);
    shown = URL.createObjectURL(picture);
    return {
      address: shown,
      width: size ? Number(size[1]) : bitmap.width,
      height: size ? Number(size[2]) : bitmap.height,
      why: "",
    };
  }
  const size = await sizeOf(source);
  return {
    address: "",
    ...(size ?? BLANK),
    why: size
      ? "No picture of this source can be had now: an empty one of its size is shown."
      : `No picture of this source can be had, and its size is not known: ${BLANK.width}x${BLANK.height} is shown.`,
  };
}

async function sizeOf(source) {
  try {
    const { events } = await ask("GET", `/api/events?source=${source}&limit=200`);
    const size = events.map((one) => one.frame ?? one.stream).find((one) => one?.w && one?.h);
    return size ? { width: size.w, height: size.h } : null;
  } catch {
    return null;
  }
}
