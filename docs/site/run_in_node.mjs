// Runs a lesson, or a program, in the Python of a browser (Pyodide) without a browser, and says how long each cell takes.
//
//   pip install --no-deps --target build/packages . comm tifffile tqdm threadpoolctl
//   node docs/site/run_in_node.mjs 04_the_u FOLDER_OF_PYODIDE build/packages
//   node docs/site/run_in_node.mjs benchmarks/browser_products.py FOLDER_OF_PYODIDE build/packages
//
// Seconds are those of a processor, so other work on the machine does not count. Goes on after a cell that fails; then the
// status is 1.
import fs from "fs";
import path from "path";
import {pathToFileURL} from "url";

const [what, pyodide, packages] = process.argv.slice(2), WHEELS = ["numpy", "scipy", "pillow", "matplotlib", "ipython", "matplotlib-inline"];
const {loadPyodide} = await import(pathToFileURL(path.resolve(pyodide, "pyodide.mjs")));
const py = await loadPyodide({indexURL: path.resolve(pyodide), env: {HOME: "/home/pyodide", MPLBACKEND: "agg"}});
await py.loadPackage(WHEELS, {messageCallback() {}});

function copy(from, to) {
  if (!fs.statSync(from).isDirectory()) return py.FS.writeFile(to, fs.readFileSync(from));
  py.FS.mkdirTree(to);
  for (const name of fs.readdirSync(from)) copy(path.join(from, name), `${to}/${name}`);
}

const seconds = () => { const {user, system} = process.cpuUsage(); return (user + system) / 1e6; };
copy(packages, py.runPython("import site; site.getsitepackages()[0]"));

function lesson(name) {
  for (const file of fs.readdirSync("lessons")) if (/\.py$|^figures$|^networks$/.test(file)) copy(`lessons/${file}`, `/drive/${file}`);
  py.runPython(`
import os, sys
os.chdir("/drive"); sys.path.insert(0, "/drive")
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.enable_gui = lambda self, gui=None: None
shell = InteractiveShell.instance(colors="NoColor")`);
  const cells = JSON.parse(fs.readFileSync(`lessons/${name}.ipynb`)).cells.filter(cell => cell.cell_type === "code");
  const start = seconds(), failed = cells.flatMap((cell, index) => {
    const before = seconds();
    py.globals.set("SOURCE", [cell.source].flat().join(""));
    const fine = py.runPython("shell.run_cell(SOURCE).success");
    console.log(`--- cell ${index}: ${(seconds() - before).toFixed(1)} s${fine ? "" : ", FAILED"}`);
    return fine ? [] : [index];
  });
  console.log(`${name}: ${(seconds() - start).toFixed(0)} s; cells that failed: ${failed.join(", ") || "none"}`);
  return failed.length;
}

py.FS.mkdirTree("/drive");
if (what.endsWith(".py")) py.runPython(fs.readFileSync(what, "utf8"));
else process.exitCode = lesson(what) ? 1 : 0;
