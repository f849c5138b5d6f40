// Before gradio's modules, which keep what they find here. gradio counts a wait on every frame, and goes on when what
// waited is gone, as its first spinner is on every page: four times a second is enough, and leaves the processor alone.
(() => {
  const frame = window.requestAnimationFrame.bind(window), COUNTS = /performance\.now\(\) ?-/;
  window.requestAnimationFrame = (deed) => COUNTS.test(deed) ? setTimeout(deed, 250, performance.now()) : frame(deed);
})();
// Svelte watches plain lists and objects: the page's events, which never change, are looked through for each component.
(() => {
  class Unwatched extends Array {}
  let config;
  Object.defineProperty(window, "gradio_config", {configurable: true, get: () => config, set(given) {
    if (given?.dependencies) Object.setPrototypeOf(given.dependencies, Unwatched.prototype);
    config = given;
  }});
})();
