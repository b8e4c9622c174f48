// The colours of classes of pixels: those of the annotated video, so that both can be compared.

// Cityscapes, then CamVid.
const USUAL = {
  road: "#804080",
  sidewalk: "#f423e8",
  building: "#464646",
  wall: "#66669c",
  fence: "#be9999",
  pole: "#999999",
  "traffic light": "#faaa1e",
  "traffic sign": "#dcdc00",
  vegetation: "#6b8e23",
  terrain: "#98fb98",
  sky: "#4682b4",
  person: "#dc143c",
  rider: "#ff0000",
  car: "#00008e",
  truck: "#000046",
  bus: "#003c64",
  train: "#005064",
  motorcycle: "#0000e6",
  bicycle: "#770b20",
  pavement: "#f423e8",
  tree: "#6b8e23",
  sign: "#dcdc00",
  pedestrian: "#dc143c",
  bicyclist: "#ff8000",
};
const GOLDEN = 0.618034; // of a turn of hue: each is far from those just before

// Different colours for the classes, by their place in the list.
export function paletteOf(names) {
  const usual = (name) => (Object.hasOwn(USUAL, name) ? USUAL[name] : null);
  const taken = new Set(names.map(usual));
  const palette = [];
  let at = 0;
  for (const name of names) {
    let colour = usual(name);
    if (!colour || palette.includes(colour)) {
      do colour = hue(at++);
      while (taken.has(colour));
    }
    palette.push(colour);
  }
  return palette;
}

function hue(at) {
  const value = [0.95, 0.7, 0.5][Math.floor(at / 17) % 3];
  const [turn, saturation] = [(at * GOLDEN) % 1, 0.75];
  const channel = (offset) => {
    const k = (offset + turn * 6) % 6;
    return nearest(255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return `#${[5, 3, 1].map((offset) => channel(offset).toString(16).padStart(2, "0")).join("")}`;
}

// Of two whole numbers that are as near, the even one.
function nearest(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
