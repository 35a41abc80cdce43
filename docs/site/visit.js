// Visits every page of the built site in a real browser, and drives each interactive picture as a person would.
//
//   npm install --no-save playwright-core axe-core     (a Chromium is needed: apt-get install chromium)
//   node docs/site/visit.js build/site [--shots FOLDER] [--only PATTERN]
//
// For each page at 390, 768 and 1440 pixels: no error on the console, no request to another host, nothing wider than the
// window, no broken picture. On the home page: mouse, keyboard and touch on each picture, and an accessibility checker.
// JupyterLite opens a lesson.
const fs = require("fs"), http = require("http"), path = require("path");
const {chromium} = require("playwright-core");

const [site, ...rest] = process.argv.slice(2), option = name => rest.includes(name) ? rest[rest.indexOf(name) + 1] : null;
const shots = option("--shots"), only = option("--only"), wrong = [];
const TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png", ".svg": "image/svg+xml"};

function pages(folder, prefix = "") {
  return fs.readdirSync(folder, {withFileTypes: true}).flatMap(entry => {
    const name = prefix + entry.name;
    if (entry.isDirectory()) return ["lite", "_static", "_sources"].includes(name) ? [] : pages(path.join(folder, entry.name), name + "/");
    return entry.name.endsWith(".html") ? [name] : [];
  });
}

// The site stands in a sub-folder of the server, as it may anywhere.
function serve() {
  const server = http.createServer((request, answer) => {
    const file = path.join(site, decodeURIComponent(new URL(request.url, "http://x").pathname).replace(/^\/sub\//, ""));
    fs.readFile(file, (error, data) => {
      answer.writeHead(error ? 404 : 200, {"Content-Type": TYPES[path.extname(file)] || "application/octet-stream"});
      answer.end(data);
    });
  });
  return new Promise(resolve => server.listen(0, "127.0.0.1", () => resolve(server)));
}

async function visit(page, address, name, width) {
  const say = text => wrong.push(`${name} at ${width}: ${text}`);
  const listen = {console: m => m.type() === "error" && say(m.text()), pageerror: e => say(e.message),
    request: r => !r.url().startsWith(address) && !r.url().startsWith("data:") && say(`asks ${r.url()}`)};
  for (const [event, heard] of Object.entries(listen)) page.on(event, heard);
  await page.setViewportSize({width, height: 900});
  await page.goto(address + name, {waitUntil: "load", timeout: 120000});
  const found = await page.evaluate(() => ({
    over: document.documentElement.scrollWidth - innerWidth,
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth && i.loading !== "lazy").map(i => i.src),
  }));
  if (found.over > 0) say(`${found.over} pixels too wide`);
  found.broken.forEach(source => say(`broken picture ${source}`));
  if (shots) await page.screenshot({path: path.join(shots, `${name.replace(/\W/g, "_")}_${width}.png`), fullPage: true});
  for (const [event, heard] of Object.entries(listen)) page.off(event, heard);
}

async function drive(browser, address) {
  const expect = (what, fine) => fine || wrong.push(`home page: ${what}`);
  const page = await (await browser.newContext({hasTouch: true, viewport: {width: 1000, height: 900}})).newPage();
  await page.goto(address + "index.html", {waitUntil: "load"});
  const numbers = await page.evaluate(() => NPUNET.numbers), one = name => page.locator(`[data-picture="${name}"]`);
  const text = (name, what) => one(name).locator(what).first();
  // Convolution: mouse, keyboard, touch
  const sum = async () => Number(await text("convolution", ".np-sum").getAttribute("data-value"));
  const cell = at => one("convolution").locator(`.np-result [data-cell="${at}"]`);
  await cell("2,3").hover();
  expect("convolution by mouse", await sum() === numbers.convolution.y[2][3]);
  await one("convolution").locator(".np-result").focus();
  await page.keyboard.press("ArrowUp");
  expect("convolution by keyboard", await sum() === numbers.convolution.y[1][3]);
  await cell("0,1").tap();
  expect("convolution by touch", await sum() === numbers.convolution.y[0][1]);
  for (const [tab, name] of [["gradient of x", "dx"], ["gradient of the weights", "dweight"]]) {
    await one("convolution").getByRole("button", {name: tab}).click();
    await cell("2,1").hover();
    expect(tab, await sum() === numbers.convolution[name][2][1]);
  }
  // Fig. 1: the slider by keyboard, a map by mouse and by touch
  const slide = async (name, index, key) => { await one(name).locator("input[type=range]").nth(index).focus(); await page.keyboard.press(key); };
  await slide("fig1", 0, "Home");
  expect("Fig. 1 by keyboard", await text("fig1", ".np-says").getAttribute("data-output") === "4");
  await slide("fig1", 0, "ArrowRight");
  expect("Fig. 1, next tile", Number(await text("fig1", ".np-says").getAttribute("data-output")) === numbers.fig1.outputs[204]);
  await one("fig1").locator(".np-map").nth(2).hover();
  expect("Fig. 1 by mouse", /pixels, 64 channels/.test(await text("fig1", ".np-says").textContent()));
  await one("fig1").locator(".np-map").nth(0).tap();
  expect("Fig. 1 by touch", /1 channels/.test(await text("fig1", ".np-says").textContent()));
  // Eq. 2
  const weight = async () => Number(await text("weightmap", ".np-says").getAttribute("data-value"));
  const before = await weight();
  await slide("weightmap", 0, "ArrowRight");
  expect("Eq. 2: w0 has an effect", await weight() > before);
  await one("weightmap").locator("canvas").scrollIntoViewIfNeeded();
  await one("weightmap").locator("canvas").focus();
  await page.keyboard.press("ArrowDown");
  const box = await one("weightmap").locator("canvas").boundingBox();
  await page.mouse.move(box.x + 2, box.y + 2);
  expect("Eq. 2: far from the cells", await weight() < 1.01);
  await page.touchscreen.tap(box.x + box.width * 44.5 / 108, box.y + box.height * 30.5 / 72);
  expect("Eq. 2 by touch", await weight() > 5);
  // §3.1
  const spread = async () => Number(await text("deformation", ".np-says").getAttribute("data-spread"));
  await one("deformation").locator(".np-knob").nth(4).focus();
  await page.keyboard.press("ArrowRight");
  expect("deformation by keyboard", Math.abs(await spread() - Math.sqrt(4 / 18)) < 1e-6);
  await one("deformation").locator(".np-stack").scrollIntoViewIfNeeded();
  const knob = await one("deformation").locator(".np-knob").nth(0).boundingBox();
  await page.mouse.move(knob.x + knob.width / 2, knob.y + knob.height / 2);
  await page.mouse.down();
  await page.mouse.move(knob.x + 40, knob.y + 30, {steps: 4});
  await page.mouse.up();
  expect("deformation by mouse", await spread() > 2);
  await one("deformation").getByRole("button", {name: "straighten"}).tap();
  expect("deformation by touch", await spread() === 0);
  // Thresholds
  await slide("threshold", 0, "Home");
  const counts = async () => await text("threshold", ".np-says").getAttribute("data-counts");
  expect("threshold 0", await counts() === JSON.stringify(numbers.threshold.check[0]));
  await slide("threshold", 0, "End");
  expect("threshold 1", await counts() === JSON.stringify(numbers.threshold.check[20]));
  // The network
  const mean = async () => Number(await text("skips", ".np-says").getAttribute("data-mean"));
  const whole = await mean();
  await one("skips").getByLabel("skip at level 0").focus();
  await page.keyboard.press("Space");
  expect("a cut skip connection has an effect", Math.abs(await mean() - whole) > 1e-4);
  await page.keyboard.press("Space");
  expect("joined again, the same prediction", await mean() === whole);
  await one("skips").locator("canvas").first().scrollIntoViewIfNeeded();
  const canvas = await one("skips").locator("canvas").first().boundingBox();
  await page.mouse.move(canvas.x + canvas.width / 2, canvas.y + canvas.height / 2);
  await page.mouse.down();
  await page.mouse.move(canvas.x + canvas.width / 2 + 40, canvas.y + canvas.height / 2, {steps: 8});
  await page.mouse.up();
  await page.waitForTimeout(1500);
  const drawn = await mean();
  expect("drawing has an effect", drawn !== whole);
  await page.touchscreen.tap(canvas.x + canvas.width / 2, canvas.y + canvas.height / 2 + 30);
  await page.waitForTimeout(1500);
  expect("touch draws too", await mean() !== drawn);
  // Accessibility
  await page.addScriptTag({path: require.resolve("axe-core/axe.min.js")});
  for (const scheme of ["light", "dark"]) {
    await page.evaluate(theme => { document.body.dataset.theme = theme; }, scheme);
    const {violations} = await page.evaluate(() => axe.run(document, {runOnly: ["wcag2a", "wcag2aa"]}));
    violations.forEach(v => wrong.push(`axe, ${scheme}: ${v.id} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 140)}`));
  }
}

// JupyterLite opens a lesson; the only other host that it asks is Pyodide's, which may be out of reach here. docs/site/run_lesson.js runs a lesson.
async function lab(browser, address) {
  const page = await (await browser.newContext({viewport: {width: 1280, height: 900}})).newPage();
  page.on("response", r => r.status() >= 400 && !r.url().endsWith("/favicon.ico") && wrong.push(`JupyterLite: ${r.status()} ${r.url()}`));
  page.on("request", r => !r.url().startsWith(address) && !/^(data:|blob:|http:\/\/127\.0\.0\.1|https:\/\/cdn\.jsdelivr\.net\/pyodide\/)/.test(r.url()) &&
    wrong.push(`JupyterLite asks ${r.url()}`));
  await page.goto(`${address}lite/lab/index.html?path=01_a_tour.ipynb`);
  await page.locator(".jp-Notebook .jp-CodeCell").first().waitFor({timeout: 120000}).catch(() => wrong.push("JupyterLite: no lesson after two minutes"));
  await page.waitForTimeout(5000);
  if (shots) await page.screenshot({path: path.join(shots, "jupyterlite.png")});
}

(async () => {
  const server = await serve(), address = `http://127.0.0.1:${server.address().port}/sub/`;
  const browser = await chromium.launch({executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]});
  const names = pages(site).filter(name => !only || new RegExp(only).test(name)), page = await browser.newPage();
  for (const width of [390, 768, 1440]) for (const name of names) await visit(page, address, name, width);
  await drive(browser, address);
  if (fs.existsSync(path.join(site, "lite"))) await lab(browser, address);
  await browser.close();
  server.close();
  wrong.slice(0, 80).forEach(line => console.log(line));
  console.log(wrong.length ? `${wrong.length} things are wrong` : `${names.length} pages at three widths: nothing is wrong`);
  process.exit(wrong.length ? 1 : 0);
})();
