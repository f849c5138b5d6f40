// Before gradio's modules, which keep what they find here. gradio counts a wait on every frame, and goes on when what
// waited is gone, as its first spinner is on every page: four times a second is enough, and leaves the processor alone.
(() => {
  const frame = window.requestAnimationFrame.bind(window), COUNTS = /performance\.now\(\) ?-/;
  window.requestAnimationFrame = (deed) => COUNTS.test(deed) ? setTimeout(deed, 250, performance.now()) : frame(deed);
})();
