// The story page's draft: in this browser, where gradio keeps it, or with a login on the server alone.
(() => {
  const NAME = "story", KEPT = "studio-story", EVERY_MS = 1000;
  const {storage, local} = window.studio;
  let last = null, saving = null, shown = ""; // the draft as it was read or kept last
  const record = (old) => ({...old, id: NAME, draft: last});
  const save = () => {
    saving = null;
    storage.drafts.update(NAME, record).catch((error) =>
      window.studio.say(error.status ? error.message : window.studio.list.texts().not_stored));
  };

  window.studio.drafts = {
    // The draft that is to be shown, once it is known whether somebody has logged in.
    async read(kept) {
      await storage.chosen;
      let draft = kept;
      try {
        draft = (await storage.drafts?.read(NAME))?.draft || kept;
      } catch (error) {
        window.studio.say(error.message);
      }
      shown = JSON.stringify(draft);
      return draft;
    },
    // A page that was only opened writes nothing: another device may have written meanwhile.
    keep(draft) {
      const told = JSON.stringify(draft);
      if (!storage.drafts || !draft || told === shown) return;
      shown = told;
      local(KEPT, null); // the next who logs in on this browser is somebody else
      last = draft;
      saving ??= setTimeout(save, EVERY_MS);
    },
  };
  addEventListener("pagehide", () => saving && storage.drafts.leave(NAME, record));
})();
