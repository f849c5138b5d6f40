// The list of conversations: pinned ones first, then folders, then the rest, the newest first; a search over all of
// them; a menu for each row and one for all. What is chosen there is done by conversations.js and transfer.js.
(() => {
  const {local, make} = window.studio;
  const FOLDED = "studio-folded-folders", WAIT_MS = 120;
  const known = new Map(); // id -> {id, title, folder, pinned, updated}
  let place = null, actions = {}, current = "", found = null, asked = 0, planned = false, waiting = null, opener = null;

  const texts = () => JSON.parse(place?.querySelector("nav")?.dataset.texts || "{}");
  const newest = () => [...known.values()].sort((one, other) => other.updated - one.updated);
  const folders = () => [...new Set(newest().map((one) => one.folder).filter(Boolean))].sort((one, other) => one.localeCompare(other));
  const folded = (folder, value) => {
    const kept = local(FOLDED) || [];
    if (value !== undefined) local(FOLDED, [...kept.filter((one) => one !== folder), ...(value ? [folder] : [])]);
    return kept.includes(folder);
  };

  const row = (one, told) => {
    const open = make("button", {type: "button", title: one.title}, make("span", {}, one.title || told.untitled));
    open.dataset.id = one.id;
    const excerpt = found?.get(one.id);
    if (excerpt && !one.title.includes(excerpt)) open.append(make("small", {}, excerpt));
    if (one.id === current) open.setAttribute("aria-current", "true");
    const more = make("button", {type: "button", className: "more", title: told.more}, "⋯");
    more.dataset.of = one.id;
    more.setAttribute("aria-label", `${told.more}: ${one.title || told.untitled}`);
    more.setAttribute("aria-haspopup", "menu");
    return make("div", {className: "row"}, open, more);
  };
  const group = (title, rows, told) => make("section", {}, make("h3", {}, title), ...rows.map((one) => row(one, told)));
  const folderOf = (folder, rows, told) => {
    const details = make("details", {open: !folded(folder)}, make("summary", {}, folder), ...rows.map((one) => row(one, told)));
    details.addEventListener("toggle", () => folded(folder, !details.open));
    return details;
  };
  const draw = () => {
    planned = false;
    const nav = place?.querySelector("nav");
    if (!nav) return;
    const told = texts(), focused = document.activeElement?.dataset, all = newest();
    nav.setAttribute("aria-label", told.conversations);
    if (found) {
      const rows = all.filter((one) => found.has(one.id)).map((one) => row(one, told));
      nav.replaceChildren(...(rows.length ? rows : [make("p", {}, told.nothing_found)]));
    } else {
      const pinned = all.filter((one) => one.pinned), rest = all.filter((one) => !one.pinned);
      nav.replaceChildren(
        ...(pinned.length ? [group(told.pinned, pinned, told)] : []),
        ...folders().map((folder) => [folder, rest.filter((one) => one.folder === folder)])
          .filter(([, rows]) => rows.length).map(([folder, rows]) => folderOf(folder, rows, told)),
        ...rest.filter((one) => !one.folder).map((one) => row(one, told)),
      );
    }
    if (focused?.id) nav.querySelector(`[data-id="${CSS.escape(focused.id)}"]`)?.focus();
    else if (focused?.of) nav.querySelector(`[data-of="${CSS.escape(focused.of)}"]`)?.focus();
  };
  const redraw = () => { if (!planned) planned = Boolean(requestAnimationFrame(draw)); };

  // Answers that come late, or to words that are not asked for any more, change nothing.
  const search = async () => {
    const text = place.querySelector("input[type=search]").value.trim(), turn = ++asked;
    const answer = text ? await window.studio.storage.conversations.search(text).catch(() => new Map()) : null;
    if (turn !== asked) return;
    found = answer;
    place.querySelector("[role=status]").textContent = found ? texts().found.replace("{count}", [...found.keys()].filter((id) => known.has(id)).length) : "";
    draw();
  };

  // The menu: a popover, so that Escape or a click beside it closes it.
  const menu = make("div", {id: "chat-menu", popover: "auto"});
  menu.setAttribute("role", "menu");
  const openMenu = (button, items) => {
    menu.replaceChildren(...items.map(([text, run, options = {}]) => {
      const item = make("button", {type: "button", tabIndex: -1, ...options}, text);
      item.setAttribute("role", "menuitem");
      item.addEventListener("click", () => { close(); run(); });
      return item;
    }));
    document.querySelector(".gradio-container").append(menu);
    opener = button;
    menu.showPopover();
    const at = button.getBoundingClientRect(), size = menu.getBoundingClientRect();
    menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
    menu.style.top = `${at.bottom + 4 + size.height < innerHeight ? at.bottom + 4 : Math.max(8, at.top - 4 - size.height)}px`;
    menu.firstChild.focus();
  };
  const close = () => {
    menu.hidePopover();
    if (opener?.isConnected) opener.focus();
    else place?.querySelector(`[data-of="${CSS.escape(opener?.dataset.of || "")}"]`)?.focus();
  };
  menu.addEventListener("keydown", (event) => {
    const items = [...menu.children], at = items.indexOf(document.activeElement);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1}[event.key];
    if (event.key === "Escape" || event.key === "Tab") close();
    else if (to === undefined) return;
    else items.at(to % items.length).focus();
    event.preventDefault();
  });

  const rowMenu = (id) => {
    const one = known.get(id), told = texts();
    if (!one) return [];
    return [
      [one.pinned ? told.unpin : told.pin, () => actions.change(id, {pinned: !one.pinned})],
      [told.rename, async () => {
        const title = await window.studio.ask({title: told.rename, value: one.title});
        if (title?.trim()) actions.rename(id, title);
      }],
      [told.folder, async () => {
        const info = told.folder_info;
        const folder = await window.studio.ask({title: told.folder, info, value: one.folder, choices: folders()});
        if (folder !== null) actions.change(id, {folder: folder.trim().slice(0, 60)});
      }],
      ...(window.studio.storage.conversations.link ? [[told.share, () => window.studio.transfer.share(id, told)]] : []),
      [told.save_markdown, () => window.studio.transfer.save([id], "md", told)],
      [told.save_json, () => window.studio.transfer.save([id], "json", told)],
      [told.delete, () => actions.remove(id), {id: "chat-delete", className: "asks-first can-undo"}],
    ];
  };
  const menuOfAll = () => {
    const told = texts(), ids = newest().map((one) => one.id);
    return [
      [told.import, () => window.studio.transfer.choose(told)],
      ...(ids.length ? [
        [told.save_all_markdown, () => window.studio.transfer.save(ids, "md", told)],
        [told.save_all_json, () => window.studio.transfer.save(ids, "json", told)],
      ] : []),
    ];
  };

  // Conversations of this browser, from before its user had a login.
  const offer = async () => {
    const bar = place?.querySelector("#chat-move"), {browser, login} = window.studio.storage;
    if (!bar || !login) return;
    const count = (await browser.list()).length;
    bar.hidden = !count;
    bar.querySelector("button").textContent = texts().move_in.replace("{count}", count);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#chat-list button");
    if (!button) return;
    if (button.dataset.of) openMenu(button, rowMenu(button.dataset.of));
    else if (button.id === "chat-more") openMenu(button, menuOfAll());
    else if (button.dataset.id && button.dataset.id !== current) actions.open(button.dataset.id);
    else if (button.closest("#chat-move")) window.studio.transfer.moveIn(texts()).finally(offer);
  });

  window.studio.list = {
    // `does` are open, remove, rename and change, of a conversation by its id.
    draw(element, does) {
      [place, actions] = [element, does];
      const box = place.querySelector("input[type=search]");
      box.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(search, WAIT_MS);
      });
      box.addEventListener("keydown", (event) => {
        if (event.key === "ArrowDown") place.querySelector("nav button[data-id]")?.focus();
      });
      found = null;
      draw();
      offer();
    },
    offer,
    note(record) {
      if (record.gone || (record.turns?.length === 0 && !record.documents)) known.delete(record.id);
      else known.set(record.id, {folder: "", pinned: false, ...record, turns: undefined, settings: undefined});
      redraw();
    },
    mark(id) {
      current = id;
      redraw();
    },
    title: (id) => known.get(id)?.title || "",
    newest: () => newest()[0]?.id,
    texts,
  };
})();
