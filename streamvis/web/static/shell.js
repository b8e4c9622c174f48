// What all pages have: the header with its links, the login, the status of the run each 2 s, and,
// for a page that wants them, the events.
//
//   start({ look: (status) => …, take: (message) => … });

import { ApiError, ask, follow } from "/static/api.js";
import { element } from "/static/dom.js";

const EVERY_MS = 2000;
const PAGES = [
  ["/", "Live"],
  ["/timeline", "Timeline"],
  ["/zones", "Zones"],
  ["/health", "Health"],
  ["/reference", "API"],
];

const header = element("header");
const run = element("p", "connecting");
const login = element("form");
const token = element("input");
const refused = element("p", undefined, "bad");

function build() {
  const nav = element("nav");
  nav.ariaLabel = "pages";
  for (const [path, name] of PAGES) {
    const link = element("a", name);
    link.href = path;
    if (path === location.pathname) link.ariaCurrent = "page";
    nav.append(link);
  }
  run.id = "run";
  run.role = "status";
  header.append(element("h1", "streamvis"), nav, run);

  const label = element("label", "Token");
  label.htmlFor = token.id = "token";
  token.type = "password";
  token.autocomplete = "current-password";
  token.required = true;
  refused.role = "alert";
  login.id = "login";
  login.hidden = true;
  login.append(label, token, element("button", "Log in"), refused);
  document.body.prepend(header, login);
}

// Say in the header what the page has to say beside the status, such as why it has no answer.
export function say(text) {
  run.textContent = text;
}

// Calls `look` with the answer of /api/status, again and again while the page is visible, and
// `take` with each message of /ws/events, those of one `source` where it is given.
export function start({ look, take, source }) {
  let stop = null; // ends the stream of events
  build();

  async function lookOnce() {
    try {
      const status = await ask("GET", "/api/status");
      login.hidden = true;
      if (take) stop ??= follow(take, source);
      const words = status.run
        ? `${status.run.pipeline}, process ${status.run.pid}`
        : "the run is over";
      say(status.problem ? `${words}: ${status.problem}` : words);
      look?.(status);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        if (login.hidden) {
          login.hidden = false;
          token.focus();
        }
        say("a token is needed");
        stop?.();
        stop = null;
      } else {
        say(`no answer: ${error.message}`);
      }
    }
  }

  async function lookAgainAndAgain() {
    if (!document.hidden) await lookOnce();
    setTimeout(lookAgainAndAgain, EVERY_MS);
  }

  login.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    try {
      await ask("POST", "/api/login", { token: token.value });
      token.value = "";
      refused.textContent = "";
      await lookOnce();
    } catch (error) {
      refused.textContent = error.message;
    }
  });
  document.addEventListener("visibilitychange", () => document.hidden || lookOnce());
  lookAgainAndAgain();
}
