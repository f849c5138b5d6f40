() => {
  const key = "studio-theme";
  const apply = (dark) => document.body.classList.toggle("dark", dark);
  const stored = localStorage.getItem(key);
  if (stored) apply(stored === "dark");
  window.studio = {
    ready(kept) {
      document.documentElement.lang = kept.shown === "zh" ? "zh-CN" : "en";
      document.documentElement.dataset.studioReady = kept.shown;
    },
    switchTheme() {
      const dark = !document.body.classList.contains("dark");
      localStorage.setItem(key, dark ? "dark" : "light");
      apply(dark);
    },
  };
}
