// §2: a 3x3 convolution and its two gradients, number by number.
(function (N) {
  "use strict";

  // The terms of one result: [[a name, its row, its column, another name, its row, its column], ...]
  const compute = N.compute.convolution = {
    // y[i, j] = sum of x[i + u, j + v] weight[u, v]
    forward: (i, j) => pairs(3, 3, (u, v) => ["x", i + u, j + v, "weight", u, v]),
    // dx[r, s] = sum of dy[r - u, s - v] weight[u, v], wherever r - u, s - v is in dy
    dx: (r, s) => pairs(3, 3, (u, v) => ["dy", r - u, s - v, "weight", u, v])
      .filter(([, i, j]) => i >= 0 && i < 4 && j >= 0 && j < 4),
    // dweight[u, v] = sum of dy[i, j] x[i + u, j + v]
    dweight: (u, v) => pairs(4, 4, (i, j) => ["dy", i, j, "x", i + u, j + v]),
    value: (terms, numbers) => terms.reduce((sum, [a, i, j, b, u, v]) => sum + numbers[a][i][j] * numbers[b][u][v], 0),
  };

  function pairs(rows, columns, make) {
    const found = [];
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) found.push(make(i, j));
    return found;
  }

  const MODES = [
    {title: "forward", result: "y", terms: compute.forward, shows: ["x", "weight", "y"],
     says: "y is a sum over the 3 x 3 window of x, each pixel times its weight."},
    {title: "gradient of x", result: "dx", terms: compute.dx, shows: ["dy", "weight", "dx"],
     says: "A pixel of x went into up to nine windows; their gradients come back through the same weights."},
    {title: "gradient of the weights", result: "dweight", terms: compute.dweight, shows: ["dy", "x", "dweight"],
     says: "A weight met every pixel of y; its gradient is the sum over all of them."},
  ];
  const NAMES = {x: "x", weight: "weight", y: "y", dy: "dL/dy", dx: "dL/dx", dweight: "dL/dweight"};

  N.picture("convolution", (place, numbers) => {
    let mode = MODES[0], cursor = [1, 1];
    const grids = N.element("div", {class: "np-grids"});
    const sum = N.element("p", {class: "np-sum", "aria-live": "polite"});
    const says = N.element("p", {class: "np-says"});

    function draw() {
      const terms = mode.terms(...cursor), lit = {};
      for (const [a, i, j, b, u, v] of terms) {
        (lit[a] = lit[a] || new Set()).add(`${i},${j}`);
        (lit[b] = lit[b] || new Set()).add(`${u},${v}`);
      }
      grids.replaceChildren(...mode.shows.map(name => grid(name, lit[name] || new Set())));
      const written = terms.map(([a, i, j, b, u, v]) => `${bracket(numbers[a][i][j])}·${bracket(numbers[b][u][v])}`);
      sum.textContent = `${NAMES[mode.result]}[${cursor}] = ${written.join(" + ")} = ${compute.value(terms, numbers)}`;
      sum.dataset.value = compute.value(terms, numbers);
      says.textContent = mode.says;
    }

    const bracket = value => value < 0 ? `(${value})` : `${value}`;

    function grid(name, lit) {
      const values = numbers[name], result = name === mode.result, side = 34;
      const [rows, columns] = [values.length, values[0].length];
      const svg = N.element("svg", {viewBox: `0 0 ${columns * side + 2} ${rows * side + 2}`, role: "img",
        "aria-label": `${NAMES[name]}, ${rows} rows of ${columns} numbers`, class: result ? "np-result" : "",
        style: `max-width:${columns * side + 2}px`});
      values.forEach((row, i) => row.forEach((value, j) => {
        const here = result && i === cursor[0] && j === cursor[1];
        const kind = here ? "np-cell np-here" : lit.has(`${i},${j}`) ? "np-cell np-lit" : "np-cell";
        const cell = N.element("g", {class: kind, "data-cell": `${i},${j}`},
          N.element("rect", {x: j * side + 1, y: i * side + 1, width: side, height: side}),
          N.element("text", {x: (j + 0.5) * side + 1, y: (i + 0.5) * side + 6, "text-anchor": "middle"}, `${value}`));
        if (result) {
          const go = () => { if (cursor[0] !== i || cursor[1] !== j) { cursor = [i, j]; draw(); } };
          cell.addEventListener("pointermove", go);  // not pointerenter: a redrawn cell would enter a resting pointer
          cell.addEventListener("pointerdown", go);
        }
        svg.append(cell);
      }));
      const figure = N.element("figure", {}, N.element("figcaption", {}, NAMES[name]), svg);
      if (result) {
        svg.setAttribute("tabindex", "0");
        svg.setAttribute("role", "application");
        svg.setAttribute("aria-label", `${NAMES[name]}: move with the arrow keys; the sum is read out below`);
        svg.addEventListener("keydown", event => {
          const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
          if (!step) return;
          event.preventDefault();
          cursor = [Math.min(rows - 1, Math.max(0, cursor[0] + step[0])),
                    Math.min(columns - 1, Math.max(0, cursor[1] + step[1]))];
          draw();
          grids.querySelector(".np-result").focus();
        });
      }
      return figure;
    }

    const tabs = N.tabs(MODES.map(one => one.title), 0, index => { mode = MODES[index]; cursor = [1, 1]; draw(); });
    N.frame(place, "Convolution and its two gradients",
      "Move over the framed grid, touch it, or go through it with the arrow keys.", tabs.row, says, grids, sum);
    tabs.choose(0);
  });
})(window.NPUNET);
