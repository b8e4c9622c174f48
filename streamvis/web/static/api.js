// Requests to the server, and the stream of events, which goes on by its cursor when it breaks off.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw new ApiError(answer.status, found.error?.message ?? answer.statusText);
  return found;
}

const RETRY_MS = 1000;
const SILENCE_MS = 15000; // the server says something every 5 s

// Calls `take` with each message, of one source where there is a `source`. Returns a function that
// ends the stream.
export function follow(take, source) {
  let cursor = "";
  let socket;
  let timer;
  let over = false;

  function watchSilence() {
    clearTimeout(timer);
    timer = setTimeout(() => socket.close(), SILENCE_MS);
  }

  function open() {
    const address = new URL("/ws/events", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (source) address.searchParams.set("source", source);
    if (cursor) address.searchParams.set("cursor", cursor);
    socket = new WebSocket(address);
    watchSilence();
    socket.onmessage = (message) => {
      watchSilence();
      const found = JSON.parse(message.data);
      if (found.cursor) cursor = found.cursor;
      take(found);
    };
    socket.onclose = () => {
      clearTimeout(timer);
      if (!over) timer = setTimeout(open, RETRY_MS);
    };
  }

  open();
  return () => {
    over = true;
    clearTimeout(timer);
    socket.close();
  };
}
