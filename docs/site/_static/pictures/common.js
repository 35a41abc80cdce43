// What the interactive pictures share. Plain scripts, no framework: a page opened from a disk can load them.
// NPUNET.numbers.NAME   what npunet computed, see docs/site/numbers_of_pictures.py
// NPUNET.compute.NAME   functions of numbers alone, which tests/test_site.py compares with npunet
// NPUNET.picture(NAME, draw)   calls draw(element, numbers) for each <div data-picture="NAME">
window.NPUNET = window.NPUNET || {numbers: {}, pictures: {}};

(function (N) {
  "use strict";
  if (N.compute) return;
  N.compute = {};

  N.picture = function (name, draw) {
    if (typeof document === "undefined") return;
    const mount = () => {
      for (const place of document.querySelectorAll(`[data-picture="${name}"]`)) {
        if (place.dataset.drawn) continue;
        place.dataset.drawn = "yes";
        draw(place, N.numbers[name]);
      }
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mount);
    else mount();
  };

  // element("button", {class: "x", onclick: f}, child, "text", ...)
  const SVG = new Set(["svg", "g", "rect", "text", "line", "path", "circle", "polygon", "title", "polyline"]);
  N.element = function (tag, attributes, ...children) {
    const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag)
                              : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  };

  let next = 0;
  // A labelled slider; change(value) is called for each move. Returns {row, set(value), value()}.
  N.slider = function (label, low, high, step, value, change, shown) {
    const id = `npunet-slider-${next++}`;
    const show = shown || (v => String(v));
    const output = N.element("output", {for: id}, show(value));
    const input = N.element("input", {type: "range", id, min: low, max: high, step, value});
    const update = () => { output.textContent = show(Number(input.value)); change(Number(input.value)); };
    input.addEventListener("input", update);
    const row = N.element("div", {class: "np-slider"}, N.element("label", {for: id}, label), input, output);
    return {row, value: () => Number(input.value), set(v) { input.value = v; update(); }, input};
  };

  // A check box with a label.
  N.toggle = function (label, on, change) {
    const id = `npunet-toggle-${next++}`;
    const input = N.element("input", {type: "checkbox", id});
    input.checked = on;
    input.addEventListener("change", () => change(input.checked));
    return {row: N.element("span", {class: "np-toggle"}, input, N.element("label", {for: id}, label)), input};
  };

  // Buttons of which one is pressed.
  N.tabs = function (names, chosen, change) {
    const buttons = names.map(name => N.element("button", {type: "button", class: "np-tab"}, name));
    const choose = index => {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === index));
      change(index);
    };
    buttons.forEach((button, i) => button.addEventListener("click", () => choose(i)));
    return {row: N.element("div", {class: "np-tabs", role: "group"}, ...buttons), choose};
  };

  N.frame = function (place, title, help, ...parts) {
    place.append(N.element("section", {class: "np-frame", "aria-label": title},
      N.element("p", {class: "np-title"}, title), N.element("p", {class: "np-help"}, help), ...parts));
  };

  N.bytes = function (text) {
    const raw = atob(text), found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
    return found;
  };

  // 16-bit floats in base64 -> Float32Array
  N.halves = function (text) {
    const bytes = N.bytes(text), found = new Float32Array(bytes.length / 2);
    for (let i = 0; i < found.length; i++) {
      const half = bytes[2 * i] | bytes[2 * i + 1] << 8;
      const sign = half & 0x8000 ? -1 : 1, exponent = half >> 10 & 31, fraction = half & 1023;
      found[i] = sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction / 1024 * 2 ** -14);
    }
    return found;
  };

  // A canvas that keeps its pixels sharp. paint(pixel index) -> [r, g, b]
  N.canvas = function (width, height, label) {
    const canvas = N.element("canvas", {width, height, class: "np-canvas", role: "img", "aria-label": label});
    const context = canvas.getContext("2d"), data = context.createImageData(width, height);
    canvas.paint = function (colour) {
      for (let i = 0; i < width * height; i++) {
        const [r, g, b] = colour(i);
        data.data.set([r, g, b, 255], 4 * i);
      }
      context.putImageData(data, 0, 0);
    };
    return canvas;
  };

  // Where on a canvas or SVG of so many units a pointer is.
  N.position = function (event, element, width, height) {
    const box = element.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
  };

  // Blue to white to orange, safe for the colour-blind; t in 0..1.
  N.heat = function (t) {
    const stops = [[13, 22, 54], [0, 114, 178], [120, 190, 220], [240, 228, 140], [230, 159, 0]];
    const x = Math.min(0.9999, Math.max(0, t)) * (stops.length - 1), i = Math.floor(x), f = x - i;
    return stops[i].map((value, c) => Math.round(value + f * (stops[i + 1][c] - value)));
  };
})(window.NPUNET);
