// The chat page's conversations: which one is open, and what is written to it. All tabs share them, with a login all
// devices (storage.js): each is a record of its own, its turns a tree (turns.js), and of one that two tabs write to, the
// turns of both are kept.
(() => {
  const LAST = "studio-conversation", SETTINGS = "studio-chat-settings", UNSAVED = "studio-unsaved";
  const {storage, list, local, turns: tree} = window.studio;
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("studio-conversations") : null;
  const name = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const first = name(); // for a question that is sent before any conversation was shown
  let shown = {id: first, seen: new Set()}; // the open conversation, and the turns of it that this page knows
  let path = []; // its turns as they stand on the page
  let place = null, trigger = () => {}, begun = false, early = false, isShown = false, ready = null, busy = false, pending = null, unsaved = null, saving = null;
  const asked = new Set(); // conversations for which the model was asked for a title
  let usual = {}, setting = null, failure = ""; // the settings of a new conversation; what was said last of storing

  const brief = (text) => (text = text.trim().replace(/\s+/g, " ")).length > 40 ? text.slice(0, 39) + "…" : text;

  const tell = (record) => {
    if (record) list.note(record);
    if (record && channel) channel.postMessage({id: record.id, writing: busy});
  };

  // What is shown goes into the record.
  const grown = ({id, title, turns: path, dropped = [], beside = []}, old) => {
    if (old?.gone || (!old && !path.length)) return undefined;
    const turns = tree.union(old, path, dropped, beside), leaf = path.at(-1)?.id || "";
    if (old?.leaf === leaf && JSON.stringify(turns) === JSON.stringify(old.turns)) return undefined;
    const kept = old?.named ? old.title : title || old?.title || brief(path[0]?.content || "");
    return {...old, id, title: kept, turns, leaf, settings: old?.settings || usual, updated: Date.now()};
  };
  // True where the record knows more than is shown.
  const save = async (value, seen) => {
    let stale = false;
    try {
      const record = await storage.conversations.update(value.id, (old) => {
        const made = grown(value, old);
        stale = tree.stale(made?.turns || old?.turns || [], value.turns);
        if (made) for (const turn of value.turns) seen.add(turn.id);
        return made;
      });
      tell(record);
      failure = record ? "" : failure;
    } catch (error) {
      console.warn("the conversation was not stored", error);
      const told = error.status ? error.message : list.texts().not_stored;
      if (told !== failure) window.studio.say(failure = told);
    }
    return stale;
  };
  const flush = () => {
    clearTimeout(saving);
    saving = null;
    const last = pending;
    pending = null;
    if (!last) return Promise.resolve(false);
    unsaved = last;
    return save(last, shown.seen).finally(() => { if (unsaved === last) unsaved = null; });
  };

  let choice = 0; // the conversation that was chosen last is shown, whichever is read first
  let newest = 0; // of the choices that the server has put on the page
  const show = (record, push = true, event = "select") => {
    choice++;
    shown = {id: record.id, seen: new Set((record.turns || []).map((turn) => turn.id))};
    local(LAST, record.id);
    const isKept = record.turns?.length || record.documents;
    window.studio.address({c: isKept ? record.id : ""}, push);
    list.mark(record.id);
    trigger(event, {choice, conversation: record.turns?.length ? record : {...record, title: ""}});
  };
  const start = (push = true, event = "select") =>
    show({id: name(), title: "", turns: [], settings: usual}, push, event);
  const startNew = async () => {
    const mine = ++choice;
    await flush();
    if (mine === choice) start();
  };
  const open = async (id, push = true, event = "select") => {
    const mine = ++choice;
    await flush();
    const record = id && await storage.conversations.read(id).catch((error) => window.studio.say(error.message));
    if (mine !== choice) return;
    if (record && !record.gone) show(record, push, event);
    else start(push, event);
  };
  const change = async (id, changes) => {
    try {
      const record = await storage.conversations.update(id, (old) => old && !old.gone ? {...old, ...changes} : undefined);
      tell(record);
      return record;
    } catch (error) {
      window.studio.say(error.message);
    }
  };
  const rename = (id, title) => {
    const box = document.querySelector("#chat-title :is(input, textarea)");
    if (id === shown.id && box) {
      box.value = brief(title);
      box.dispatchEvent(new Event("input", {bubbles: true}));
    }
    change(id, {title: brief(title), named: true});
  };
  // Another version of a turn, with what followed it.
  const choose = async (leaf) => {
    await flush();
    const record = await change(shown.id, {leaf});
    if (record) show(record, false);
  };
  const remove = async (id) => {
    await flush();
    const {conversations} = storage;
    try {
      const whole = await conversations.read(id);
      tell(await conversations.update(id, (old) => old && {id, gone: true, turns: [], updated: Date.now()}));
      const over = () => trigger("delete", {conversation: id}); // what the server keeps of it
      if (!whole?.turns.length && !whole?.documents) over();
      else window.studio.undo(whole.title, async () => {
        tell(await conversations.update(id, () => ({...whole, updated: Date.now()})));
        await open(id);
      }, over);
    } catch (error) {
      return window.studio.say(error.message);
    }
    if (id === shown.id) await open(list.newest());
  };

  window.studio.conversations = {
    draw(element, raise, watch) {
      [place, trigger] = [element, raise];
      const drawn = () => list.draw(element, {open, remove, rename, change});
      watch("value", drawn);
      drawn();
      this.begin();
    },
    // What the server has put on the page: stored a few times a second while an answer is written.
    keep(props, watch) {
      watch("value", async () => {
        if (!props.value?.turns) return;
        const value = {...props.value, id: props.value.id || first};
        if (!props.value.id && shown.id !== first) shown = {id: first, seen: new Set()};
        early ||= !props.value.id;
        isShown ||= early || props.value.shown;
        ready?.();
        path = value.turns;
        if (props.value.shown) { // it came from here
          if (props.value.shown < newest) return open(shown.id, false); // it came after a later one
          newest = props.value.shown;
          busy = false;
          document.documentElement.dataset.studioConversation = value.id; // from now on it can be given documents
          return;
        }
        if (pending && pending.id !== value.id) flush();
        busy = value.writing;
        pending = value;
        if (busy) {
          saving ??= setTimeout(flush, storage.conversations.everyMs);
          if (value.id === shown.id && value.turns.length) window.studio.address({c: value.id}, false);
        } else {
          const [question, answer] = value.turns;
          if (await flush() && value.id === shown.id) await open(shown.id, false);
          if (value.turns.length !== 2 || answer.role !== "assistant" || !answer.whole || asked.has(value.id)) return;
          asked.add(value.id);
          if (!(await storage.conversations.read(value.id).catch(() => null))?.named) trigger("submit", {conversation: {...value, turns: [question, answer]}});
        }
      });
    },
    // Once the page knows the visitor's language and the list is drawn.
    async begin(then) {
      if (then) ready = then;
      if (begun && then) then();
      if (begun || !place || !ready) return;
      begun = true;
      const cut = local(UNSAVED);
      local(UNSAVED, null);
      try {
        usual = storage.drafts ? (await storage.drafts.read("settings"))?.values || {} : local(SETTINGS) || {};
        if (cut?.id && !storage.login) await save(cut, new Set(cut.turns.map((turn) => turn.id)));
        (await storage.conversations.list()).forEach(list.note);
        await window.studio.presets.begin();
      } catch (error) {
        window.studio.say(error.message);
      }
      list.offer();
      storage.conversations.watch(changed);
      if (!early) await open(new URLSearchParams(location.search).get("c") || local(LAST), false, "input");
    },
    // A conversation that has been given documents is kept before anything is said in it.
    async hold() {
      const {id} = shown, title = brief(document.querySelector("#chat-files b")?.textContent || "");
      const record = {id, title, turns: [], leaf: "", settings: usual, documents: true, updated: Date.now()};
      try {
        tell(await storage.conversations.update(id, (old) => old && !old.gone ? {...old, documents: true} : record));
        if (id === shown.id) window.studio.address({c: id}, false);
      } catch (error) {
        window.studio.say(error.status ? error.message : list.texts().not_stored);
      }
    },
    // The model's own title, where its visitor has not named the conversation meanwhile.
    async titled({id, title}) {
      if (!title || (await storage.conversations.read(id).catch(() => null))?.named) return;
      rename(id, title);
    },
    rename(title) {
      if (title.trim() && brief(title) !== list.title(shown.id)) change(shown.id, {title: brief(title), named: true});
      return title.trim() ? brief(title) : list.title(shown.id);
    },
    settings(names, values) {
      const settings = Object.fromEntries(names.map((key, at) => [key, values[at]]));
      window.studio.presets.reflect(settings);
      if (!isShown) return; // what a page begins with is not what its visitor has chosen
      usual = settings;
      const id = shown.id, same = JSON.stringify(settings);
      if (setting?.id === id) clearTimeout(setting.timer);
      const timer = setTimeout(() => {
        if (storage.drafts) storage.drafts.update("settings", (old) => ({...old, id: "settings", values: settings})).catch(() => {});
        else local(SETTINGS, settings);
        storage.conversations.update(id, (old) => old && !old.gone && JSON.stringify(old.settings) !== same ? {...old, settings} : undefined).catch(() => {});
      }, storage.drafts ? 500 : 0);
      setting = {id, timer};
    },
    // Conversations of earlier versions, which kept them all in one value.
    adopt(old) {
      const records = (old?.conversations || []).filter((record) => record.turns?.length);
      records.forEach((record, at) => {
        const turns = record.turns.map((turn) => ({...turn, id: name(), whole: true}));
        storage.browser.update(record.id, (known) => known || {...record, turns, settings: {}, updated: Date.now() - at})
          .then((made) => !storage.login && list.note(made));
      });
      return {};
    },
    // What was written in a row of the chatbot; under a question without answer stands a row that nobody has written.
    words(row) {
      const [kind, role] = row.classList.contains("user-row") ? ["user-row", "user"] : ["bot-row", "assistant"];
      const rows = [...document.querySelectorAll(`#chatbot .message-row.${kind}`)];
      const alone = (turn, at) => role === "assistant" && turn.role === "user" && path[at + 1]?.role !== "assistant";
      return path.filter((turn, at) => turn.role === role || alone(turn, at))[rows.indexOf(row)]?.content;
    },
    open,
    brief,
    name,
    current: () => shown.id,
  };
  addEventListener("pagehide", () => { // a database may not answer any more
    const last = pending || unsaved;
    if (last?.turns.length && !storage.conversations.leave(last.id, (old) => grown(last, old))) local(UNSAVED, last);
  });
  // Another tab or device has written.
  async function changed({id, writing, ...brief}) {
    if (brief.revision) list.note({id, ...brief});
    const isShown = id === shown.id && !busy && !pending && !unsaved && !writing;
    const record = isShown || !brief.revision ? await storage.conversations.read(id).catch(() => null) : null;
    if (!record) return;
    list.note(record);
    if (!isShown || id !== shown.id) return;
    if (record.gone) start(false);
    else if (record.turns.some((turn) => !shown.seen.has(turn.id))) show(record, false);
  }
  if (channel) channel.onmessage = ({data}) => changed(data);
  document.addEventListener("click", (event) => {
    const version = event.target.closest?.('#chatbot a[href^="#version-"]');
    if (version) {
      event.preventDefault();
      event.stopPropagation(); // gradio folds what the link stands in
      choose(version.getAttribute("href").slice("#version-".length));
    }
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#chat-new")) startNew();
  });
})();
