() => {
  const key = "studio-theme";
  const apply = (dark) => document.body.classList.toggle("dark", dark);
  const stored = localStorage.getItem(key);
  if (stored) apply(stored === "dark");
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(
      text.replace(/\n\u2063[^\n]*(\n\s*)?/g, "").replace(/<img class="chat-picture"[^>]*>\s*/g, ""));
  }
  // On a narrow window the panels lie over the page: a choice made, or a click beside them, puts them away.
  document.addEventListener("click", (event) => {
    const chat = document.getElementById("chat");
    const inside = (place) => event.target.closest(place);
    if (!chat || inside("#chat-side-switch, #chat-settings-switch")) return;
    if (!inside("#chat-side") || inside("#chat-new, #chat-talks label")) delete chat.dataset.side;
    if (window.innerWidth <= 1100 && !inside("#chat-settings, .options")) delete chat.dataset.settings;
  });
  // A dropped folder is walked, and names keep their folders: a slash would be cut off on the way, so it is disguised.
  const walk = async (entry, into) => {
    if (entry.isFile) into.push([await new Promise((done, failed) => entry.file(done, failed)), entry.fullPath]);
    else {
      const reader = entry.createReader();
      for (let part; (part = await new Promise((done, failed) => reader.readEntries(done, failed))).length; )
        for (const inner of part) await walk(inner, into);
    }
  };
  const disguised = (path) => {
    let parts = path.split("/").filter(Boolean);
    while (parts.length > 1 && new TextEncoder().encode(parts.join("\u2215")).length > 180) parts = parts.slice(1);
    return parts.join("\u2215");
  };
  document.addEventListener("drop", async (event) => {
    const place = event.target.closest("#knowledge-drop");
    const entries = place ? [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean) : [];
    if (!entries.some((entry) => entry.isDirectory)) return;
    event.preventDefault();
    event.stopPropagation();
    const found = [];
    for (const entry of entries) await walk(entry, found);
    const parcel = new DataTransfer();
    for (const [file, path] of found)
      if (!/(^|\/)\./.test(path)) parcel.items.add(new File([file], disguised(path), {type: file.type}));
    const input = place.querySelector("input[type=file]");
    input.files = parcel.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  }, true);
  // A picture pasted into the question or dropped on it is an upload like any other.
  const take = (event, files) => {
    const pictures = [...(files || [])].filter((file) => file.type.startsWith("image/"));
    const input = document.querySelector("#chat-attach input[type=file], input#chat-attach, #chat-pictures input[type=file]");
    if (!pictures.length || !input || !event.target.closest || !event.target.closest("#chat-box")) return;
    event.preventDefault();
    event.stopPropagation();
    const parcel = new DataTransfer();
    pictures.forEach((file) => parcel.items.add(file));
    input.files = parcel.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  };
  document.addEventListener("paste", (event) => take(event, event.clipboardData && event.clipboardData.files), true);
  document.addEventListener("drop", (event) => take(event, event.dataTransfer && event.dataTransfer.files), true);
  // A question that is edited is its words; the pictures before it stay as they are.
  document.addEventListener("click", (event) => {
    if (!event.target.closest || !event.target.closest("#chatbot button")) return;
    requestAnimationFrame(() => {
      for (const box of document.querySelectorAll("#chatbot .edit-textarea")) {
        const words = box.value.replace(/^(<img class="chat-picture"[^>]*>)+\n\n/, "");
        if (words === box.value) continue;
        box.value = words;
        box.style.minHeight = "";
        box.dispatchEvent(new Event("input", {bubbles: true}));
      }
    });
  }, true);
  // A destructive button asks first, in a dialog that is seen wherever the button stands.
  let agreed = null;
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button.asks-first");
    const dialog = document.getElementById("confirm");
    if (!button || !dialog || button === agreed) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const answer = (event) => {
      const choice = event.target.closest("[data-answer]")?.dataset.answer;
      if (!choice && event.target !== dialog) return;
      dialog.close();
      if (choice !== "yes") return;
      agreed = button;
      button.click();
      agreed = null;
    };
    for (const place of ["#confirm-title", "#confirm-yes"])
      dialog.querySelector(place).textContent = button.textContent.trim();
    dialog.onclick = answer;
    dialog.showModal();
  }, true);
  window.studio = {
    save(name, base64) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([bytes], {type: "application/octet-stream"}));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    },
    ready(kept) {
      document.documentElement.lang = kept.shown === "zh" ? "zh-CN" : "en";
      document.cookie = `studio-language=${kept.shown}; path=/; SameSite=Lax`; // for routes that know no session
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
