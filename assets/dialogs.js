// What a script of the page tells and asks: a line at the bottom, a dialog with one field, a file to keep, an undo.
(() => {
  const names = () => document.getElementById("button-names").dataset;
  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  let fading = null;

  Object.assign(window.studio, {
    make,
    // A sentence at the bottom of the window, for as long as it takes to read it.
    say(text) {
      const bar = document.getElementById("said") || make("div", {id: "said"});
      bar.setAttribute("role", "status");
      if (!bar.isConnected) document.body.append(bar);
      bar.textContent = text;
      clearTimeout(fading);
      fading = setTimeout(() => bar.remove(), 5000 + 60 * text.length);
    },
    // The text of the field, "other" for the third button, null where it was left; `value` null: no field.
    ask({title, info = "", value = "", fixed = false, choices = [], yes = title, other = ""}) {
      const field = make("input", {type: "text", value: value || "", readOnly: fixed, maxLength: fixed ? 2000 : 60});
      field.setAttribute("aria-label", title);
      field.setAttribute("list", "ask-choices");
      const close = make("button", {type: "submit", value: "no", formNoValidate: true}, names().cancel);
      const dialog = make("dialog", {id: "ask"}, make("form", {method: "dialog"},
        make("h2", {id: "ask-title"}, title), make("p", {}, info), ...(value === null ? [] : [field]),
        make("datalist", {id: "ask-choices"}, ...choices.map((choice) => make("option", {value: choice}))),
        make("div", {}, close, ...(other ? [make("button", {type: "submit", value: "other"}, other)] : []),
          make("button", {type: "submit", value: "yes", id: "ask-yes"}, yes))));
      dialog.setAttribute("aria-labelledby", "ask-title");
      field.addEventListener("keydown", (event) => { // a form's first button would take it
        if (event.key !== "Enter" || event.isComposing) return;
        event.preventDefault();
        dialog.close("yes");
      });
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
      document.querySelector(".gradio-container").append(dialog);
      const back = document.activeElement;
      dialog.showModal();
      if (value !== null) field.select();
      return new Promise((done) => dialog.addEventListener("close", () => {
        dialog.remove();
        if (back?.isConnected) back.focus();
        done({yes: field.value, other: "other"}[dialog.returnValue] ?? null);
      }));
    },
    // A file for the visitor to keep.
    give(name, content) {
      const link = make("a", {href: URL.createObjectURL(new Blob([content], {type: "application/octet-stream"})), download: name});
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    },
    save: (name, base64) => window.studio.give(name, bytesOf(base64)),
    // For ten seconds a button brings back what was deleted.
    undo(what, bring, over) {
      document.getElementById("undo")?.finish();
      const bar = make("div", {id: "undo"});
      bar.setAttribute("role", "status");
      const end = (then) => {
        if (!bar.isConnected) return;
        bar.remove();
        removeEventListener("pagehide", bar.finish);
        then();
      };
      bar.finish = () => end(over);
      addEventListener("pagehide", bar.finish);
      bar.append(`${names().deleted} ${what}`, make("button", {type: "button", onclick: () => end(bring)}, names().undo));
      document.body.append(bar);
      setTimeout(bar.finish, 10_000);
    },
  });
})();
