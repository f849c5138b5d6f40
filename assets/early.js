// Before gradio's modules, which keep what they find here. gradio counts a wait on every frame, and goes on when what
// waited is gone, as its first spinner is on every page: four times a second is enough, and leaves the processor alone.
(() => {
  const frame = window.requestAnimationFrame.bind(window), COUNTS = /performance\.now\(\) ?-/;
  window.requestAnimationFrame = (deed) => COUNTS.test(deed) ? setTimeout(deed, 250, performance.now()) : frame(deed);
})();

// gradio looks through all events for every component, twice. As plain objects they would be watched for changes on the
// way, which makes each look ten times as dear; they never change, and what has a prototype of its own is not watched.
(() => {
  const still = (value) => {
    if (typeof value !== "object" || value === null) return;
    Object.values(value).forEach(still);
    Object.setPrototypeOf(value, Object.create(Object.getPrototypeOf(value)));
  };
  let config;
  Object.defineProperty(window, "gradio_config", {
    configurable: true, get: () => config, set(value) { still(value?.dependencies); config = value; },
  });
})();
