// Runs a lesson in JupyterLite in a real browser, as the reader of the site does who presses "run".
//
//   node docs/site/run_lesson.js build/site 01_a_tour FOLDER_OF_PYODIDE [MINUTES] [FOLDER_FOR_PICTURES]
//
// The pictures: the cell that runs, each half minute; at the end every cell with an output.
// Pyodide's own server may be out of reach here, so what the page asks of it is answered from a folder with Pyodide and its
// wheels. Prints what each cell has printed; status 1 if a cell fails, or not all are done within the minutes.
//
// Pyodide and jupyterlite-pyodide-kernel belong together: 0.27 to 0.6, 314 to 0.8. With another kernel than the site's:
//   python -c "import sys; sys.path.insert(0, 'docs/site'); import lite, pathlib; lite.build(pathlib.Path('build/old/lite'), pathlib.Path('build/old-lite'))"
const fs = require("fs"), http = require("http"), path = require("path");
const {chromium} = require("playwright-core");

const [site, lesson, pyodide, minutes = "10", pictures] = process.argv.slice(2);
const TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
  ".png": "image/png", ".json": "application/json", ".ipynb": "application/json", ".wasm": "application/wasm"};
const type = file => TYPES[path.extname(file)] || "application/octet-stream";

// JupyterLab's settings, with the application as window.jupyterapp, which `cells` asks
function exposed(settings) {
  const all = JSON.parse(settings);
  all["jupyter-config-data"].exposeAppInBrowser = true;
  return JSON.stringify(all);
}

function serve() {
  const server = http.createServer((request, answer) => {
    const file = path.join(site, decodeURIComponent(new URL(request.url, "http://x").pathname).replace(/^\/sub\//, ""));
    fs.readFile(file, (error, data) => {
      if (file.endsWith("lab/jupyter-lite.json")) data = exposed(data);
      answer.writeHead(error ? 404 : 200, {"Content-Type": type(file)});
      answer.end(data);
    });
  });
  return new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(server)));
}

// What another host was asked for comes from the folder, if it is there.
async function fromFolder(route) {
  const asked = new URL(route.request().url()), file = path.join(pyodide, path.basename(asked.pathname));
  if (fs.existsSync(file)) return route.fulfill({path: file, contentType: type(file), headers: {"Access-Control-Allow-Origin": "*"}});
  console.log(`not in ${pyodide}: ${asked.href}`);
  return route.abort();
}

// [{done, text, failed}] of all cells of code, from the notebook itself: the page shows only the cells that are near.
const cells = page => page.evaluate(() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter(cell => cell.model.type === "code").map(({model}) => {
    const outputs = model.outputs.toJSON(), joined = text => [text || ""].flat().join("");
    return {
      done: Boolean(model.executionCount),
      text: outputs.map(o => joined(o.text || o.traceback || (o.data["image/png"] ? "(a picture)" : o.data["text/plain"])).trim()).join("\n"),
      failed: outputs.some(o => o.output_type === "error"),
    };
  }));

// A picture of the page with this cell of code in view. Cells that are far away are not drawn, so their heights are not known
// at first, and the page scrolls twice.
async function picture(page, cell, name) {
  for (const pause of [500, 700]) {
    await page.evaluate(async number => {
      const book = window.jupyterapp.shell.currentWidget.content;
      const places = book.widgets.flatMap((widget, place) => widget.model.type === "code" ? [place] : []);
      await book.scrollToItem(places[number], "start");
      book.widgets[places[number]].node.scrollIntoView({block: "start"});
    }, cell);
    await page.waitForTimeout(pause);
  }
  await page.screenshot({path: path.join(pictures, `${name}.png`)});
}

(async () => {
  const server = await serve(), start = Date.now(), seconds = () => Math.round((Date.now() - start) / 1000);
  const browser = await chromium.launch({executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]});
  const page = await (await browser.newContext({viewport: {width: 1280, height: 1400}})).newPage();
  await page.context().route(url => url.hostname !== "127.0.0.1", fromFolder);
  await page.goto(`http://127.0.0.1:${server.address().port}/sub/lite/lab/index.html?path=${lesson}.ipynb`);
  await page.locator(".jp-Notebook .jp-CodeCell").first().click({timeout: 120000});
  await page.waitForTimeout(3000);
  await page.getByRole("menuitem", {name: "Run", exact: true}).click();
  await page.getByRole("menuitem", {name: /Run All Cells/}).first().click();
  const said = new Set();
  let found = [], taken = 0;
  if (pictures) fs.mkdirSync(pictures, {recursive: true});
  while (seconds() < 60 * minutes) {
    await page.waitForTimeout(2000);
    found = await cells(page);
    found.forEach((cell, index) => {
      if (!cell.done || said.has(index)) return;
      said.add(index);
      console.log(`--- cell ${index}, ${seconds()} s\n${cell.text.slice(0, 1500)}`);
    });
    if (pictures && seconds() - taken >= 30) {
      taken = seconds();
      await picture(page, Math.min(said.size, found.length - 1), `at_${String(taken).padStart(4, "0")}_s`);
    }
    if (found.some(cell => cell.failed) || (found.length && said.size === found.length)) break;
  }
  for (const index of pictures ? found.keys() : []) if (found[index].text) await picture(page, index, `cell_${String(index).padStart(2, "0")}`);
  await browser.close();
  server.close();
  const fine = found.length && said.size === found.length && !found.some(cell => cell.failed);
  console.log(`${said.size} of ${found.length} cells done in ${seconds()} s${fine ? "" : "; something is wrong"}`);
  process.exit(fine ? 0 : 1);
})();
