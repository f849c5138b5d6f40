// What no component of gradio does: theme, address, confirmation, folders and pictures that are dropped.
(() => {
  // Small things of this browser; null for what is not there or shall not be, or where a browser keeps nothing.
  const local = (key, value) => {
    try {
      if (value === null) return localStorage.removeItem(key);
      if (value !== undefined) return localStorage.setItem(key, JSON.stringify(value));
      const kept = localStorage.getItem(key);
      try { return JSON.parse(kept); } catch { return kept; } // a word, as earlier versions wrote it
    } catch { return null; }
  };
  const THEME = "studio-theme", BETTER = "studio-better";
  document.documentElement.dataset.better = local(BETTER) || (innerWidth < 900 ? "away" : "open");
  const apply = (dark) => document.body.classList.toggle("dark", dark);
  // A question as it was typed: the server sends it as HTML, so that nothing in it is taken for Markdown.
  const decoded = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent;
  const typed = (text) => text
    .replace(/(<img class="chat-picture"[^>]*>)+\s*/g, "")
    .replace(/<details class="thinking"[\s\S]*?<\/details>\s*/g, "")
    .replace(/<div class="typed">([\s\S]*?)<\/div>/g, (_, words) => decoded(words));
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(typed(text.replace(/\n\u2063[^\n]*(\n\s*)?/g, "")));
  }
  // On a narrow window the panels lie over the page: a choice made, Escape, or a click beside them, puts them away.
  document.addEventListener("click", (event) => {
    const chat = document.getElementById("chat");
    const inside = (place) => event.target.closest(place);
    if (!chat || !event.target.isConnected || inside("#chat-side-switch, #chat-settings-switch, #chat-menu, dialog")) return;
    if (!inside("#chat-side") || inside("#chat-new, #chat-list button[data-id]")) delete chat.dataset.side;
    if (window.innerWidth <= 1100 && !inside("#chat-settings, .options")) delete chat.dataset.settings;
  });
  document.addEventListener("keydown", (event) => {
    const chat = document.getElementById("chat");
    const inner = document.querySelector("dialog[open], :popover-open") || event.target.closest?.("[role=combobox]");
    if (event.key !== "Escape" || !chat || inner) return; // what is open inside a panel closes first
    for (const [panel, most] of [["side", 820], ["settings", 1100]])
      if (window.innerWidth <= most && panel in chat.dataset) {
        delete chat.dataset[panel];
        document.getElementById(`chat-${panel}-switch`).focus();
      }
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
    const place = event.target.closest("#knowledge-drop, #models-drop");
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
  // Where a file may be let go shows itself while one is drawn over it.
  for (const [kind, isOver] of [["dragover", true], ["dragleave", false], ["drop", false]])
    document.addEventListener(kind, (event) => {
      if (isOver && !event.dataTransfer?.types.includes("Files")) return;
      event.target.closest?.("#knowledge-drop, #models-drop, #chat-main")?.toggleAttribute("data-over", isOver);
    }, true);
  // A picture pasted into the question or dropped on it is an upload like any other; so is a document, anywhere on the
  // chat page.
  const give = (place, files) => {
    const input = document.querySelector(place)?.previousElementSibling; // gradio draws it before its button
    if (!input?.matches("input[type=file]") || !files.length) return false;
    const parcel = new DataTransfer();
    files.forEach((file) => parcel.items.add(file));
    input.files = parcel.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
    return true;
  };
  const take = (event, given) => {
    const files = [...(given || [])], pictures = files.filter((file) => file.type.startsWith("image/"));
    const onBox = event.target.closest?.("#chat-box"), onChat = event.target.closest?.("#chat-main");
    const others = event.type === "drop" || onBox ? files.filter((file) => !pictures.includes(file)) : [];
    if (!(onBox && pictures.length) && !(onChat && others.length)) return;
    const taken = [onBox && give("#chat-attach", pictures), give("#chat-documents", others)];
    if (!taken.some(Boolean)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  document.addEventListener("dragover", (event) => {
    if (event.dataTransfer?.types.includes("Files") && event.target.closest?.("#chat-main")) event.preventDefault();
  });
  document.addEventListener("paste", (event) => take(event, event.clipboardData && event.clipboardData.files), true);
  document.addEventListener("drop", (event) => take(event, event.dataTransfer && event.dataTransfer.files), true);
  // What is edited is the words as they were written: no pictures, reasoning, sources or small print. Escape leaves them.
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#chatbot button")) return;
    requestAnimationFrame(() => {
      for (const box of document.querySelectorAll("#chatbot .edit-textarea:not([data-filled])")) {
        const row = box.closest(".message-row");
        box.dataset.filled = "";
        box.hidden = !box.value && row.classList.contains("bot-row");
        if (box.hidden) continue;
        box.value = window.studio.conversations.words(row) ?? box.value;
        box.style.minHeight = "";
        box.dispatchEvent(new Event("input", {bubbles: true}));
        box.focus();
      }
    });
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !event.target.matches?.(".edit-textarea")) return;
    const buttons = event.target.closest(".message-row")?.nextElementSibling?.querySelectorAll("button");
    if (buttons?.length) buttons[buttons.length - 1].click(); // the cross after the tick, whatever language it is in
  });
  // gradio takes Enter for the send button, also where there is none: a question waits until the answer before it ends.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || !event.target.closest?.(".question-box:has(.stop-button)")) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  // A destructive button asks first, in a dialog that is seen wherever the button stands.
  let agreed = null;
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button.asks-first");
    const dialog = document.getElementById("confirm");
    if (!button || !dialog || button === agreed) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const list = button.closest("[id]")?.id, key = JSON.stringify(button.dataset);
    const isSame = (one) => one.closest("[id]")?.id === list && JSON.stringify(one.dataset) === key;
    const answer = (event) => {
      const choice = event.target.closest("[data-answer]")?.dataset.answer;
      if (!choice && event.target !== dialog) return;
      dialog.close();
      if (choice !== "yes") return;
      // its list may have been drawn anew meanwhile
      agreed = button.isConnected ? button : [...document.querySelectorAll("button.asks-first")].find(isSame);
      agreed?.click();
      agreed = null;
    };
    for (const place of ["#confirm-title", "#confirm-yes"])
      dialog.querySelector(place).textContent = button.textContent.trim();
    const names = document.getElementById("button-names").dataset;
    const brought = button.classList.contains("can-undo");
    dialog.querySelector("#confirm-info").textContent = brought ? names.confirm_undo : names.confirm_info;
    dialog.onclick = answer;
    button.closest("[popover]")?.hidePopover(); // the focus is with what opened it, and comes back there
    dialog.showModal();
  }, true);
  // A document opens over the page, in a dialog; with a modifier key in a tab of its own, as any link.
  const openDocument = (link) => {
    let dialog = document.getElementById("document");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "document";
      dialog.append(document.createElement("iframe"));
      dialog.onclick = (event) => event.target === dialog && dialog.close();
      document.querySelector(".contain").append(dialog);
    }
    dialog.setAttribute("aria-label", link.textContent);
    dialog.firstChild.title = link.textContent;
    dialog.firstChild.src = link.href;
    dialog.showModal();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a.open-document");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openDocument(link);
  });
  // A mark in an answer: pointing at it (or the first tap) shows the passage, a click leads to its card and opens the
  // document there. The address stays what it is.
  const MARK = 'a[href^="#source-"]';
  const cardOf = (mark) => document.getElementById(mark.getAttribute("href").slice(1));
  const hint = document.createElement("div");
  hint.id = "passage-hint";
  hint.setAttribute("role", "tooltip");
  let hinted = null;
  const hideHint = () => { hint.remove(); hinted = null; };
  const showHint = (mark) => {
    const card = cardOf(mark);
    if (!card || hinted === mark) return;
    mark.removeAttribute("title");
    hinted = mark;
    hint.replaceChildren(...[...card.querySelectorAll(":scope > header, :scope > p")].map((part) => part.cloneNode(true)));
    document.querySelector(".gradio-container").append(hint);
    const at = mark.getBoundingClientRect(), size = hint.getBoundingClientRect();
    hint.style.left = `${Math.max(8, Math.min(at.left - 20, innerWidth - size.width - 8))}px`;
    hint.style.top = `${at.bottom + 6 + size.height < innerHeight ? at.bottom + 6 : Math.max(8, at.top - 6 - size.height)}px`;
    const first = hint.querySelector("mark");
    if (first) first.parentElement.scrollTop = first.offsetTop - 40;
  };
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.(MARK);
    if (mark && event.pointerType === "mouse") showHint(mark);
    else if (hinted && event.pointerType === "mouse" && !event.target.closest?.("#passage-hint")) hideHint();
  });
  document.addEventListener("focusin", (event) => {
    const mark = event.target.closest?.(MARK);
    if (mark?.matches(":focus-visible")) showHint(mark);
    else hideHint();
  });
  addEventListener("scroll", (event) => event.target !== hint && !hint.contains(event.target) && hideHint(), true);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideHint());
  document.addEventListener("click", (event) => {
    const mark = event.target.closest?.(MARK);
    if (!mark) return hinted && !hint.contains(event.target) && hideHint();
    event.preventDefault();
    const card = cardOf(mark);
    if (!card) return;
    if (event.pointerType === "touch" && hinted !== mark) return showHint(mark);
    hideHint();
    for (let folded = card.closest("details"); folded; folded = folded.parentElement.closest("details")) folded.open = true;
    for (const other of document.querySelectorAll(".source.shown")) other.classList.remove("shown");
    card.classList.add("shown");
    card.scrollIntoView({block: "nearest"});
    const link = card.querySelector("a.open-document");
    if (link) openDocument(link);
  });
  const tabs = () => [...document.querySelectorAll("#tabs > .tab-wrapper [role=tab]")];
  const follow = () => {
    const wanted = new URLSearchParams(location.search).get("tab") || "chat";
    const tab = tabs().find((one) => one.dataset.tabId === wanted);
    if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
  };
  let following = false;
  addEventListener("popstate", () => {
    following = true;
    follow();
    following = false;
    const wanted = new URLSearchParams(location.search).get("c");
    if (wanted !== window.studio.conversations.current()) window.studio.conversations.open(wanted, false);
  });
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.("#tabs > .tab-wrapper [data-tab-id], #tabs > .tab-wrapper .overflow-dropdown button");
    if (tab && !following) setTimeout(() => {
      const chosen = tabs().find((one) => one.getAttribute("aria-selected") === "true");
      chosen?.scrollIntoView({inline: "center", block: "nearest"}); // on a phone the row of names scrolls
      if (chosen) window.studio.address({tab: chosen.dataset.tabId}, event.isTrusted);
    });
  });
  let begun = "", awaited = Infinity; // the language once its conversation is shown; how many arrivals are to be drawn
  const drawn = new Set();
  const tellReady = () => { if (begun && drawn.size >= awaited) document.documentElement.dataset.studioReady = begun; };
  window.studio = {
    local,
    // Tab and conversation stand in the address: back, forward and a reload follow it.
    address(changes, push) {
      const url = new URL(location.href);
      for (const [name, value] of Object.entries(changes))
        if (value) url.searchParams.set(name, value);
        else url.searchParams.delete(name);
      if (url.href !== location.href) history[push ? "pushState" : "replaceState"](null, "", url);
    },
    // The card of better models: open at first on a wide window; how it was left is kept.
    better(open = document.documentElement.dataset.better === "away", movesFocus = true) {
      document.documentElement.dataset.better = open ? "open" : "away";
      local(BETTER, open ? "open" : "away");
      const opener = document.getElementById("better-open");
      opener?.setAttribute("aria-expanded", String(open));
      if (movesFocus) (open ? document.querySelector("#better input, #better button") : opener)?.focus();
    },
    start() {
      follow();
      const stored = local(THEME);
      if (stored) apply(stored === "dark");
    },
    ready(kept) {
      document.documentElement.lang = kept.shown === "zh" ? "zh-CN" : "en";
      document.cookie = `studio-language=${kept.shown}; path=/; SameSite=Lax`; // for routes that know no session
      window.studio.storage.choose(kept.login);
      window.studio.conversations.begin(() => {
        begun = kept.shown;
        tellReady();
      });
    },
    // One of so many that wait for the visitor's arrival is drawn.
    arrived(one, of) {
      awaited = of;
      drawn.add(one);
      tellReady();
    },
    flip(panel) {
      const chat = document.getElementById("chat");
      if (panel in chat.dataset) delete chat.dataset[panel];
      else chat.dataset[panel] = "flipped";
    },
    closeDocument() {
      document.getElementById("document").close();
    },
    switchTheme() {
      const dark = !document.body.classList.contains("dark");
      local(THEME, dark ? "dark" : "light");
      apply(dark);
    },
  };
})();
