// A small line chart: one line over time on a canvas, in the colours of the page.

const STEPS = [1, 2, 5];

// The least round number that is not below the value: 1, 2 or 5 times a power of ten.
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return (STEPS.find((step) => step * power >= value) ?? 10) * power;
}

// Draws `points`, [seconds, value or null], over the `span` seconds that end at `end`. `words` writes
// a value, for its scale and, with `name`, for screen readers; `since` names the left end.
export function drawLine(canvas, points, { end, span, since, name, words }) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const values = points.map(([, value]) => value).filter((value) => value !== null);
  const top = roundUp(Math.max(0, ...values));
  const x = (at) => width - ((end - at) / span) * width;
  const y = (value) => height - 1.5 - (value / top) * (height - 4);

  pen.strokeStyle = style.borderBottomColor;
  pen.lineWidth = 1;
  for (const share of [0, 0.5, 1]) {
    const line = Math.round(y(top * share)) + 0.5;
    pen.beginPath();
    pen.moveTo(0, line);
    pen.lineTo(width, line);
    pen.stroke();
  }
  pen.strokeStyle = style.color;
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  pen.beginPath();
  let begun = false; // a gap in the values is a gap in the line
  for (const [at, value] of points) {
    if (value === null) {
      begun = false;
    } else if (begun) {
      pen.lineTo(x(at), y(value));
    } else {
      pen.moveTo(x(at), y(value));
      begun = true;
    }
  }
  pen.stroke();
  pen.fillStyle = style.outlineColor;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "top";
  pen.fillText(words(top), 2, 4);
  pen.textBaseline = "bottom";
  pen.fillText(since, 2, height - 3);
  canvas.ariaLabel = values.length
    ? `${name}: ${words(values.at(-1))} now, ${words(Math.min(...values))} to ${words(Math.max(...values))}`
    : `${name}: no value`;
}
