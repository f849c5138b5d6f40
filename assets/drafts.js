// The story page's draft: in this browser, where gradio keeps it, or with a login on the server alone.
(() => {
  const NAME = "story", KEPT = "studio-story", EVERY_MS = 1000;
  const {storage, local} = window.studio;
  let last = null, saving = null, shown = ""; // the draft as it was read or kept last
  const isEmpty = (draft) => !Object.keys(draft || {}).length;
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
      try {
        const draft = (await storage.drafts?.read(NAME))?.draft;
        shown = JSON.stringify(draft);
        if (!isEmpty(draft)) return draft;
        this.keep(kept); // this browser's moves in with its login
        return kept;
      } catch (error) {
        window.studio.say(error.message);
        return kept;
      }
    },
    // A page that was only opened writes nothing: another device may have written meanwhile.
    keep(draft) {
      if (!storage.drafts || isEmpty(draft)) return;
      local(KEPT, null); // the next who logs in on this browser is somebody else
      const told = JSON.stringify(draft);
      if (told === shown) return;
      shown = told;
      last = draft;
      saving ??= setTimeout(save, EVERY_MS);
    },
  };
  addEventListener("pagehide", () => saving && storage.drafts.leave(NAME, record));
})();
