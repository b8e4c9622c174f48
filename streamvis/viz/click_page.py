"""An HTML page on which ground points are clicked, also on another machine than the video's.

It is one file without scripts or pictures from elsewhere, so it can be copied and opened anywhere.
"""

import base64
import html
import json

import cv2
import numpy as np

from streamvis.messages import Array

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Ground of @TITLE@</title>
<style>
  body { margin: 0; font: 15px/1.4 system-ui, sans-serif; background: #14161a; color: #e6e8ea;
         display: flex; flex-wrap: wrap; }
  figure { position: relative; margin: 0; flex: 1 1 640px; align-self: flex-start; }
  figure img { width: 100%; display: block; cursor: crosshair; }
  figure svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
  figure canvas { position: absolute; width: 200px; height: 200px; border: 2px solid #e6e8ea;
         border-radius: 50%; pointer-events: none; display: none; image-rendering: pixelated; }
  aside { flex: 0 1 430px; padding: 12px 20px; box-sizing: border-box; }
  input { width: 72px; font: inherit; background: #24282e; color: inherit; border: 1px solid #555; }
  button { font: inherit; margin-right: 6px; }
  td { padding: 2px 6px; } td:nth-child(2) { color: #9aa2ac; }
  textarea { width: 100%; height: 130px; box-sizing: border-box; background: #24282e;
         color: inherit; font: 13px/1.4 monospace; }
</style>
<figure><img id="picture" alt="the picture to click on" src="data:image/png;base64,@PNG@">
<svg id="drawing" viewBox="0 0 @WIDTH@ @HEIGHT@"></svg>
<canvas id="loupe" width="50" height="50"></canvas></figure>
<aside>
<p><b>Click on points of the ground</b> whose places you know, at least four and no three of them on
a line; far apart is better. Drag a point or press the arrow keys to move it.</p>
<p>A rectangle on the ground, its corners clicked counter-clockwise:
<input id="a" placeholder="1→2, m"> by <input id="b" placeholder="2→3, m">
<button id="rectangle">fill in</button></p>
<table><thead><tr><td>#<td>pixels<td>x, m<td>y, m<td></thead><tbody id="rows"></tbody></table>
<p>Seen from above, y points left of x: with x to the right, y runs away from you.</p>
<textarea id="command" readonly></textarea>
<p><button id="copy">copy the command</button><a id="file" download="points.csv"
  style="color: inherit">or save points.csv</a></p>
</aside>
<script>
const WIDTH = @WIDTH@, HEIGHT = @HEIGHT@, COMMAND = @COMMAND@;
const $ = id => document.getElementById(id), picture = $("picture"), points = [];
let chosen = -1, held = false;

function place(event) {  // pixels from the picture's upper left corner
  const box = picture.getBoundingClientRect();
  const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  return [share[0] * WIDTH, share[1] * HEIGHT].map(value => Math.round(value * 10) / 10);
}
function near(p) {
  const reach = 10 * WIDTH / picture.getBoundingClientRect().width;
  return points.findIndex(q => Math.hypot(q.px[0] - p[0], q.px[1] - p[1]) < reach);
}
function show() {
  const unit = WIDTH / 640, at = points.map(p => p.px.join(",")).join(" ");
  $("drawing").innerHTML =
    `<polygon points="${at}" fill="#f0e44233" stroke="#f0e442" stroke-width="${unit}"/>` +
    points.map((p, i) => `<circle cx="${p.px[0]}" cy="${p.px[1]}" r="${3 * unit}" fill="none"
      stroke="${i == chosen ? "#fff" : "#d55e00"}" stroke-width="${1.5 * unit}"/>
      <text x="${p.px[0] + 6 * unit}" y="${p.px[1] - 5 * unit}" fill="#fff" stroke="#000"
      stroke-width="${unit / 2}" paint-order="stroke" font-size="${14 * unit}">${i + 1}</text>`
    ).join("");
  update();
}
function table() {
  $("rows").replaceChildren(...points.map((p, i) => {
    const row = document.createElement("tr");
    row.innerHTML = `<td>${i + 1}<td>${p.px.join(", ")}` +
      "<td><input><td><input><td><button>×</button>";
    row.querySelectorAll("input").forEach((input, axis) => {
      input.value = p.m[axis];
      input.oninput = () => { p.m[axis] = input.value.trim().replace(",", "."); update(); };
    });
    row.querySelector("button").onclick = () => { points.splice(i, 1); chosen = -1; table(); };
    return row;
  }));
  show();
}
function update() {
  const known = points.filter(p => p.m.every(value => value !== "" && isFinite(value)));
  const lacking = known.length < 4 ? `# ${4 - known.length} more with metres\\n` : "";
  $("command").value = lacking + COMMAND +
    known.map(p => ` \\\\\\n  --point ${p.px.join(",")}=${p.m.join(",")}`).join("");
  const lines = ["u,v,x,y", ...known.map(p => [...p.px, ...p.m].join(","))].join("\\n") + "\\n";
  $("file").href = "data:text/csv," + encodeURIComponent(lines);
}
function loupe(event, p) {
  const box = picture.getBoundingClientRect(), glass = $("loupe"), pen = glass.getContext("2d");
  pen.fillRect(0, 0, 50, 50);
  const grain = picture.naturalWidth / WIDTH;
  const [left, top, side] = [p[0] - 12.5, p[1] - 12.5, 25].map(value => value * grain);
  pen.drawImage(picture, left, top, side, side, 0, 0, 50, 50);
  pen.strokeStyle = "#d55e00";
  pen.strokeRect(24.5, 24.5, 1, 1);
  glass.style.display = "block";
  const x = event.clientX - box.left, y = event.clientY - box.top;
  glass.style.left = (x > box.width - 240 ? x - 230 : x + 30) + "px";
  glass.style.top = Math.max(0, y - 230) + "px";
}
picture.onpointerdown = event => {
  const p = place(event);
  chosen = near(p);
  if (chosen < 0) chosen = points.push({ px: p, m: ["", ""] }) - 1;
  held = true;
  event.preventDefault();
  document.activeElement.blur();
  table();
};
picture.onpointermove = event => {
  const p = place(event);
  loupe(event, p);
  if (held) { points[chosen].px = p; table(); }
};
picture.onpointerleave = () => { held = false; $("loupe").style.display = "none"; };
onpointerup = () => { held = false; };
onkeydown = event => {
  const steps = { ArrowLeft: [-.5, 0], ArrowRight: [.5, 0], ArrowUp: [0, -.5], ArrowDown: [0, .5] };
  const step = steps[event.key];
  if (chosen < 0 || !step || event.target.tagName == "INPUT") return;
  points[chosen].px = points[chosen].px.map((v, i) => Math.round((v + step[i]) * 10) / 10);
  event.preventDefault();
  table();
};
$("rectangle").onclick = () => {
  const [a, b] = ["a", "b"].map(id => $(id).value.trim().replace(",", "."));
  [["0", "0"], [a, "0"], [a, b], ["0", b]].forEach((m, i) => { if (points[i]) points[i].m = m; });
  table();
};
$("copy").onclick = () => { $("command").select(); document.execCommand("copy"); };
table();
</script></html>
"""


def click_page(pixels: Array, title: str, command: str) -> str:
    """Return the page for a picture (H, W, 3); points are appended to `command`."""
    height, width = pixels.shape[:2]
    _, png = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR))
    quoted = json.dumps(command).replace("<", "\\u003c")
    page = PAGE.replace("@TITLE@", html.escape(title)).replace("@COMMAND@", quoted)
    page = page.replace("@WIDTH@", str(width)).replace("@HEIGHT@", str(height))
    return page.replace("@PNG@", base64.b64encode(png.tobytes()).decode())
