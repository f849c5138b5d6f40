() => {
  const key = "studio-theme";
  const apply = (dark) => document.body.classList.toggle("dark", dark);
  const stored = localStorage.getItem(key);
  if (stored) apply(stored === "dark");
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(text.replace(/\n\u2063[^\n]*(\n\s*)?/g, ""));
  }
  // On a narrow window the panels lie over the page: a choice made, or a click beside them, puts them away.
  document.addEventListener("click", (event) => {
    const chat = document.getElementById("chat");
    const inside = (place) => event.target.closest(place);
    if (!chat || inside("#chat-side-switch, #chat-settings-switch")) return;
    if (!inside("#chat-side") || inside("#chat-new, #chat-talks label")) delete chat.dataset.side;
    if (window.innerWidth <= 1100 && !inside("#chat-settings, .options")) delete chat.dataset.settings;
  });
  window.studio = {
    ready(kept) {
      document.documentElement.lang = kept.shown === "zh" ? "zh-CN" : "en";
      document.documentElement.dataset.studioReady = kept.shown;
    },
    flip(panel) {
      const chat = document.getElementById("chat");
      if (panel in chat.dataset) delete chat.dataset[panel];
      else chat.dataset[panel] = "flipped";
    },
    switchTheme() {
      const dark = !document.body.classList.contains("dark");
      localStorage.setItem(key, dark ? "dark" : "light");
      apply(dark);
    },
  };
}
