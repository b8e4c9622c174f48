// The page of the API: its table is in the document.

import { start } from "/static/shell.js";

start({});
