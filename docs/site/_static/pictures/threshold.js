// §4: one threshold, all measures, and what they see: walls that are missing merge cells, walls too many split them.
(function (N) {
  "use strict";
  const compute = N.compute.threshold = {
    // 4-connected components of a mask (0 or 1), numbered 1..n in row order.
    components(mask, width) {
      const found = new Int32Array(mask.length), height = mask.length / width;
      let count = 0;
      for (let start = 0; start < mask.length; start++) {
        if (!mask[start] || found[start]) continue;
        count++;
        const stack = [start];
        found[start] = count;
        while (stack.length) {
          const i = stack.pop(), x = i % width, y = Math.floor(i / width);
          for (const [j, inside] of [[i - 1, x > 0], [i + 1, x < width - 1], [i - width, y > 0], [i + width, y < height - 1]])
            if (inside && mask[j] && !found[j]) { found[j] = count; stack.push(j); }
        }
      }
      return {found, count};
    },
    // Merged, split, missed, invented as npunet.metrics.count_errors counts them, and which cells they are.
    errors(found, nFound, truth, nTrue) {
      const shared = new Map(), ofFound = new Int32Array(nFound + 1), ofTrue = new Int32Array(nTrue + 1);
      for (let i = 0; i < found.length; i++) {
        ofFound[found[i]]++;
        ofTrue[truth[i]]++;
        if (found[i] && truth[i]) { const key = found[i] * 65536 + truth[i]; shared.set(key, (shared.get(key) || 0) + 1); }
      }
      const trueIn = new Int32Array(nFound + 1), foundIn = new Int32Array(nTrue + 1);
      const covered = new Uint8Array(nTrue + 1), known = new Uint8Array(nFound + 1);
      for (const [key, pixels] of shared) {
        const f = Math.floor(key / 65536), t = key % 65536;
        if (pixels > ofTrue[t] / 2) { trueIn[f]++; covered[t] = 1; known[f] = 1; }
        if (pixels > ofFound[f] / 2) { foundIn[t]++; known[f] = 1; }
      }
      const present = n => { const list = []; for (let i = 1; i < n.length; i++) if (n[i]) list.push(i); return list; };
      const extra = counts => counts.reduce((sum, c) => sum + Math.max(0, c - 1), 0);
      return {
        true: present(ofTrue).length, found: present(ofFound).length,
        merged: extra(trueIn), split: extra(foundIn),
        missed: present(ofTrue).filter(t => !covered[t]).length,
        invented: present(ofFound).filter(f => !known[f]).length,
        mergers: trueIn, splits: foundIn,
      };
    },
  };

  N.picture("threshold", (place, numbers) => {
    const {width, height} = numbers.probability, probability = N.bytes(numbers.probability.grey);
    const truth = N.bytes(numbers.cells), nTrue = truth.reduce((a, b) => Math.max(a, b), 0);
    const canvas = N.canvas(width, height, "found cells: merged ones orange, split ones blue");
    const says = N.element("p", {class: "np-says", "aria-live": "polite"});
    const table = N.element("table", {class: "np-table"});
    const names = Object.keys(numbers.rows[0]).filter(name => name !== "threshold");
    const better = name => !name.includes("error");

    function draw(index) {
      const row = numbers.rows[index], cut = row.threshold * 255;
      const mask = Uint8Array.from(probability, p => p > cut ? 1 : 0);
      const {found, count} = compute.components(mask, width);
      const errors = compute.errors(found, count, truth, nTrue);
      canvas.paint(i => {
        if (!mask[i]) return truth[i] ? [90, 90, 90] : [20, 20, 20];
        const shade = 0.75 + 0.25 * (found[i] * 7 % 5) / 4;
        const colour = errors.mergers[found[i]] > 1 ? [230, 159, 0] : errors.splits[truth[i]] > 1 ? [86, 180, 233] : [225, 225, 225];
        return colour.map(value => Math.round(shade * value));
      });
      says.textContent = `${errors.true} true cells, ${errors.found} found: ${errors.merged} merged (orange), ` +
        `${errors.split} split (blue), ${errors.missed} missed, ${errors.invented} invented.`;
      says.dataset.counts = JSON.stringify([errors.true, errors.found, errors.merged, errors.split, errors.missed, errors.invented]);
      table.replaceChildren(N.element("caption", {}, `the measures at ${row.threshold}`),
        ...names.map(name => {
          const values = numbers.rows.map(one => one[name]);
          const best = better(name) ? Math.max(...values) : Math.min(...values);
          const at = numbers.rows[values.indexOf(best)].threshold;
          return N.element("tr", {}, N.element("th", {scope: "row"}, name),
            N.element("td", {class: row[name] === best ? "np-best" : ""}, row[name].toFixed(3)),
            N.element("td", {}, `best ${best.toFixed(3)} at ${at}`));
        }));
    }

    const slider = N.slider("threshold", 0, 20, 1, 10, draw, v => (v / 20).toFixed(2));
    N.frame(place, "One threshold, seven measures", "Move the threshold: thin walls fill up at a low one, cells break at a high one.",
      slider.row, N.element("div", {class: "np-grids"}, canvas, table), says);
    draw(10);
  });
})(window.NPUNET);
