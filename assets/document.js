// The page of a document. A PDF is drawn by pdf.js, page by page as they come into view, with the cited words marked.
const body = document.body, given = body.dataset, by = (id) => document.getElementById(id);

const inside = window.parent !== window && window.parent.studio?.closeDocument;
const theme = () => {
  let kept = null;
  try { kept = localStorage.getItem("studio-theme"); } catch { /* a browser that keeps nothing */ }
  const dark = kept ? kept.includes("dark") : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.classList.toggle("dark", dark);
};
theme();
addEventListener("storage", theme);
if (inside) {
  by("close").hidden = false;
  by("close").onclick = inside;
  addEventListener("keydown", (event) => event.key === "Escape" && inside());
}
const tell = (text) => { by("told").textContent = text; by("told").hidden = !text; };
by("passage")?.scrollIntoView({block: "center"});

// Letters as they can be compared: PDFium read the words that are looked for, pdf.js the page they stand on.
const letters = (text) => {
  const kept = [], places = [];
  let at = 0;
  for (const character of text) {
    for (const letter of character.normalize("NFKC").toLowerCase())
      if (!/[\s\u00ad\u2010-\u2015\u200b-\u200d\ufeff-]/.test(letter)) { kept.push(letter); places.push(at); }
    at += character.length;
  }
  return {text: kept.join(""), places};
};
// Where the words stand: [piece, from, to] of each piece of the page's text that holds some of them.
const found = (pieces, wanted) => {
  const all = letters(pieces.join("")), ends = [];
  let sum = 0;
  for (const piece of pieces) ends.push(sum += piece.length);
  const ranges = [];
  const look = (text) => {
    const sought = letters(text).text;
    const at = sought.length > 1 ? all.text.indexOf(sought) : -1;
    if (at < 0) return false;
    ranges.push([all.places[at], all.places[at + sought.length - 1] + 1]);
    return true;
  };
  // What does not stand there whole (a passage over two columns, a table) is looked for line by line.
  for (const text of wanted) if (!look(text)) for (const line of text.split(/\n|(?<=[.!?。！？])\s*/)) look(line);
  const parts = [];
  pieces.forEach((piece, number) => {
    const start = ends[number] - piece.length;
    for (const [from, to] of ranges) {
      const first = Math.max(from, start), last = Math.min(to, ends[number]);
      if (first < last) parts.push([number, first - start, last - start]);
    }
  });
  return parts;
};
const mark = (layer, wanted) => {
  const places = found(layer.textContentItemsStr, wanted);
  const of = Map.groupBy(places, ([number]) => number);
  for (const [number, ranges] of of) {
    const span = layer.textDivs[number], text = span.textContent, parts = [];
    let at = 0;
    for (const [, from, to] of ranges.sort((one, other) => one[1] - other[1])) {
      if (to <= at) continue;
      const marked = document.createElement("mark");
      marked.textContent = text.slice(Math.max(from, at), to);
      parts.push(text.slice(at, Math.max(from, at)), marked);
      at = to;
    }
    span.replaceChildren(...parts, text.slice(at));
  }
  return places.length > 0;
};

const show = async () => {
  const pdfjs = await import("./pdfjs/build/pdf.mjs");
  pdfjs.GlobalWorkerOptions.workerSrc = new URL("pdfjs/build/pdf.worker.mjs", import.meta.url).href;
  const beside = (folder) => new URL(`pdfjs/web/${folder}/`, import.meta.url).href;
  const pdf = await pdfjs.getDocument({
    url: given.file, cMapUrl: beside("cmaps"), cMapPacked: true, standardFontDataUrl: beside("standard_fonts"),
    wasmUrl: beside("wasm"), iccUrl: beside("iccs"), enableXfa: false,
  }).promise;
  const cited = new Map(JSON.parse(given.marks).map(({page, words}) => [page, words]));
  const start = Math.min(Math.max(1, +given.page || 1), pdf.numPages);
  const first = await pdf.getPage(start), natural = first.getViewport({scale: 1});
  let zoom = 1, arrived = false;
  const scale = (width) => zoom * Math.min((by("pages").clientWidth - 16) / width, Math.max(1.5, 900 / width));
  const pages = Array.from({length: pdf.numPages}, (_, at) => {
    const place = document.createElement("section");
    place.className = "page";
    place.setAttribute("aria-label", `${at + 1} / ${pdf.numPages}`);
    by("pages").append(place);
    return {number: at + 1, place, size: natural, drawn: 0};
  });
  const fit = ({place, size}) => {
    const factor = scale(size.width);
    place.style.width = `${size.width * factor}px`;
    place.style.height = `${size.height * factor}px`;
    place.style.setProperty("--total-scale-factor", factor);
    place.style.setProperty("--scale-factor", factor);
    return factor;
  };
  const draw = async (page) => {
    const turn = ++page.drawn, source = await pdf.getPage(page.number);
    page.size = source.getViewport({scale: 1});
    const factor = fit(page), viewport = source.getViewport({scale: factor});
    const dense = Math.min(devicePixelRatio || 1, 4096 / Math.max(viewport.width, viewport.height));
    const canvas = document.createElement("canvas"), words = document.createElement("div");
    canvas.width = viewport.width * dense;
    canvas.height = viewport.height * dense;
    words.className = "words";
    await source.render({canvas, viewport, transform: dense === 1 ? null : [dense, 0, 0, dense, 0, 0]}).promise;
    const layer = new pdfjs.TextLayer({textContentSource: await source.getTextContent(), container: words, viewport});
    await layer.render();
    if (turn !== page.drawn) return;
    page.place.replaceChildren(canvas, words);
    const wanted = cited.get(page.number);
    const marked = wanted && mark(layer, wanted);
    if (page.number !== start || arrived) return;
    arrived = true;
    if (marked) words.querySelector("mark").scrollIntoView({block: "center"});
    else if (wanted) tell(`${given.unmarked}\n${wanted.join("\n")}`);
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const page = pages.find(({place}) => place === entry.target);
      page.seen = entry.isIntersecting;
      if (page.seen && !page.place.firstChild) draw(page);
      else if (!page.seen && page.place.firstChild) { page.drawn++; page.place.replaceChildren(); }
    }
  }, {rootMargin: "100% 0px"});
  const lay = () => {
    for (const page of pages) fit(page);
    for (const page of pages) if (page.seen) draw(page); // also what failed where there was no room yet
  };
  lay();
  pages[start - 1].place.scrollIntoView();
  for (const page of pages) seen.observe(page.place);
  const count = () => {
    const middle = innerHeight / 2;
    const current = pages.find(({place}) => place.getBoundingClientRect().bottom > middle) || pages.at(-1);
    by("place").textContent = `${current.number} / ${pdf.numPages}`;
  };
  count();
  addEventListener("scroll", count, {passive: true});
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; lay(); } });
  by("smaller").onclick = () => { zoom = Math.max(.5, zoom / 1.25); lay(); };
  by("larger").onclick = () => { zoom = Math.min(4, zoom * 1.25); lay(); };
  body.dataset.ready = "yes";
};
if (given.file) show().catch((error) => {
  console.warn("the PDF cannot be drawn", error);
  location.replace(by("as-text").href); // an old browser, or a file that only PDFium can read
});
