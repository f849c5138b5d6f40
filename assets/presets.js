// Presets of the chat page: a name and settings (system prompt, sampling, model). Some ship with the page, the visitor's
// own are kept in this browser, or with a login on the server (storage.js); they go in and out as a JSON file,
// {"presets": [{"name", "settings"}]}. The server checks the settings of a preset when it is used.
(() => {
  const {make} = window.studio;
  const KEY = "studio-presets", RECORD = "all", MOST = 200, LONGEST = 60;
  let place = null, raise = () => {}, current = {}, own = [], server = null;

  const valid = (listed) => (Array.isArray(listed) ? listed : []).filter((preset) =>
    typeof preset?.name === "string" && preset.name.trim() && preset.settings && typeof preset.settings === "object")
    .map(({name, settings}) => ({name: name.trim().slice(0, LONGEST), settings})).slice(0, MOST);
  const local = () => valid(window.studio.local(KEY));
  // New ones take the place of those with their names.
  const keep = async (added, without = "") => {
    const names = new Set([without, ...added.map((preset) => preset.name)]);
    const changed = (old) => [...old.filter((preset) => !names.has(preset.name)), ...added].slice(-MOST);
    own = changed(own);
    fill();
    try {
      if (!server) localStorage.setItem(KEY, JSON.stringify(own = changed(local())));
      else own = valid((await server.update(RECORD, (old) => ({...old, id: RECORD, presets: changed(valid(old?.presets))}))).presets);
      fill();
    } catch (error) {
      window.studio.say(error.status ? error.message : window.studio.list.texts().not_stored);
    }
  };
  const drawn = () => JSON.parse(place.firstElementChild.dataset.presets);
  const texts = () => JSON.parse(place.firstElementChild.dataset.texts);
  const listed = () => [...drawn(), ...own];
  const reflect = () => {
    const select = place?.querySelector("select");
    const fits = ({settings}) => Object.keys(settings).every((key) => settings[key] === current[key]);
    if (select) select.value = String(listed().findLastIndex(fits));
    if (select?.selectedIndex < 0) select.value = "-1";
  };
  const say = (text) => { place.querySelector("[role=status]").textContent = text; };

  const choice = () => {
    const select = make("select", {id: "chat-preset"});
    select.onchange = () => {
      const chosen = listed()[Number(select.value)];
      if (chosen) raise("select", {settings: chosen.settings});
    };
    return select;
  };
  const options = (words) => {
    const all = listed().map(({name}, at) => make("option", {value: String(at), textContent: name})), shipped = drawn().length;
    const groups = [[words.presets_shipped, all.slice(0, shipped)], [words.presets_own, all.slice(shipped)]];
    return [make("option", {value: "-1", textContent: words.preset_none}),
      ...groups.filter(([, part]) => part.length).map(([label, part]) => make("optgroup", {label}, ...part))];
  };
  const rows = (words) => own.map((preset) => {
    const remove = make("button", {type: "button", textContent: "×", title: `${words.preset_delete}: ${preset.name}`, onclick: () => {
      keep([], preset.name);
      window.studio.undo(preset.name, () => keep([preset]), () => {});
    }});
    remove.setAttribute("aria-label", remove.title);
    return make("li", {}, make("span", {textContent: preset.name}), remove);
  });
  const menu = (words) => {
    const name = make("input", {type: "text", maxLength: LONGEST, placeholder: words.preset_name});
    name.setAttribute("aria-label", words.preset_name);
    const save = () => {
      if (!name.value.trim()) return name.focus();
      keep([{name: name.value.trim(), settings: {...current}}]);
      name.value = "";
      say(words.preset_saved);
    };
    name.onkeydown = (event) => event.key === "Enter" && save();
    const file = make("input", {type: "file", accept: ".json,application/json", hidden: true, onchange: async () => {
      let found = [];
      try {
        const read = JSON.parse(await file.files[0].text());
        found = valid(read?.presets ?? read);
      } catch { /* no JSON: nothing was found in it */ }
      file.value = ""; // so that the same file can be chosen again
      keep(found);
      say(found.length ? words.presets_imported.replace("{count}", found.length) : words.presets_wrong);
    }});
    const out = () => window.studio.give("presets.json", JSON.stringify({presets: own}, null, 2));
    const button = (textContent, onclick) => make("button", {type: "button", textContent, onclick});
    return [
      make("div", {}, name, button(words.preset_save, save)),
      make("ul", {}),
      make("div", {}, button(words.presets_export, out), button(words.presets_import, () => file.click()), file),
    ];
  };
  const draw = () => {
    if (!place?.firstElementChild?.dataset.presets) return;
    const words = texts(), wasOpen = place.querySelector("details")?.open;
    const label = make("label", {htmlFor: "chat-preset", textContent: words.preset});
    const more = make("details", {open: Boolean(wasOpen)}, make("summary", {textContent: words.presets_manage}), ...menu(words));
    const status = make("p", {});
    status.setAttribute("role", "status");
    place.firstElementChild.replaceChildren(label, choice(), more, status);
    fill();
  };
  // What is listed, in the place of what was; all else stays, and with it what somebody types or has opened.
  const fill = () => {
    if (!place?.querySelector("select")) return;
    place.querySelector("select").replaceChildren(...options(texts()));
    place.querySelector("ul").replaceChildren(...rows(texts()));
    place.querySelector("ul + div button").hidden = !own.length;
    reflect();
  };
  // What another device of the login has kept meanwhile.
  const refresh = async () => {
    const there = server && await server.read(RECORD).catch(() => null);
    if (!there || JSON.stringify(valid(there.presets)) === JSON.stringify(own)) return;
    own = valid(there.presets);
    fill();
  };

  window.studio.presets = {
    draw(element, trigger, watch) {
      [place, raise] = [element, trigger];
      watch("value", draw);
      element.addEventListener("focusin", ({relatedTarget}) => element.contains(relatedTarget) || refresh());
      draw();
    },
    // The page's settings as they are now.
    reflect(settings) {
      current = settings;
      reflect();
    },
    // Once it is known whether somebody has logged in.
    async begin() {
      const {login, server: serverOf} = window.studio.storage;
      server = login ? serverOf("preset") : null;
      own = server ? valid((await server.read(RECORD))?.presets) : local();
      draw();
    },
    // Into the login, beside what is there, those of this browser from before.
    async moveIn() {
      const kept = local(), beside = (there) => [...kept.filter(({name}) => !there.some((one) => one.name === name)), ...there];
      if (!kept.length) return;
      await server.update(RECORD, (old) => ({...old, id: RECORD, presets: own = beside(valid(old?.presets))}));
      window.studio.local(KEY, null);
      fill();
    },
  };
  addEventListener("storage", (event) => {
    if (event.key !== KEY || server) return;
    own = local();
    fill();
  });
  addEventListener("focus", refresh);
})();
