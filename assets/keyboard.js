// The page by keyboard: names of buttons that carry a picture alone, lists that Escape and Tab close, and a focus that
// stays near when what had it is drawn anew or goes.
(() => {
  // Buttons that carry a picture alone get a name; a list that holds buttons is no list.
  let naming = false;
  const name = () => {
    naming = false;
    const names = document.getElementById("button-names")?.dataset;
    if (!names) return;
    for (const [place, text] of [[".submit-button", names.send], [".stop-button", names.stop]])
      for (const button of document.querySelectorAll(place))
        if (button.getAttribute("aria-label") !== text) button.setAttribute("aria-label", text);
    if (innerWidth <= 820) // a phone has no Shift to hold
      for (const box of document.querySelectorAll("textarea[placeholder*=Shift]"))
        box.placeholder = box.placeholder.replace(/(?:Enter|回车)\S* ?\S*[，,] ?Shift.*/, "").trim();
    for (const list of document.querySelectorAll(".examples[role=list]")) list.setAttribute("role", "group");
    for (const list of document.querySelectorAll("ul.option-list:not([tabindex])")) list.tabIndex = -1; // no stop for Tab
    closeLeft();
  };
  // gradio opens a list a frame after the key: one whose box was left in the meantime would stay open.
  const closeLeft = () => {
    for (const box of document.querySelectorAll("input[role=combobox][aria-expanded=true]"))
      if (box !== document.activeElement) box.dispatchEvent(new FocusEvent("blur"));
  };
  new MutationObserver(() => {
    if (!naming) naming = Boolean(requestAnimationFrame(name));
  }).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ["aria-expanded"]});
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.closest?.("#better")) window.studio.better(false);
  });
  // Whoever turns to the page has seen the card of better models, which lies over settings and answers.
  const leaveCard = ({target, isTrusted}) => {
    const isShown = document.getElementById("better")?.getBoundingClientRect().width;
    if (isShown && isTrusted && !target.closest?.("#better, #better-open")) window.studio.better(false, false);
  };
  addEventListener("pointerdown", leaveCard, true);
  addEventListener("input", leaveCard, true);
  // Escape closes a list. gradio opens one at any other key, a moment after it: with Tab the list would stay open.
  document.addEventListener("keydown", (event) => {
    if (!event.target.matches?.("input[role=combobox]")) return;
    if (event.key === "Escape") event.target.blur();
    else if (["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key)) event.stopPropagation();
  }, true);
  const FOCUSABLE = 'button:not([disabled]), a[href], input:not([type=hidden], [type=file], [disabled]), textarea, select, summary, [tabindex="0"]';
  const KEYS = ["id", "of", "place", "picture", "file", "talk", "key"]; // data attributes that tell one of a list
  let byKeys = false, held = null, above = [];
  addEventListener("keydown", () => { byKeys = true; }, true);
  addEventListener("pointerdown", () => { byKeys = false; }, true);
  document.addEventListener("focusin", ({target}) => {
    [held, above] = [target, []];
    const card = document.getElementById("better"), at = card?.getBoundingClientRect(), own = target.getBoundingClientRect();
    const isOver = at?.width && own.right > at.left && own.left < at.right && own.bottom > at.top && own.top < at.bottom;
    if (byKeys && isOver && !card.contains(target)) window.studio.better(false, false); // it would hide what has the focus
    for (let one = target.parentElement; one && !one.matches("[role=tabpanel], dialog, main, body"); one = one.parentElement)
      above.push([one, middle(target, one)]);
  });
  const like = (place) => {
    const key = KEYS.find((one) => held.dataset[one] !== undefined);
    return key && place.querySelector(`[data-${key}="${CSS.escape(held.dataset[key])}"]`);
  };
  // Where an element is in one that holds it: of what had the focus this is known after it went.
  const middle = (one, holder) => {
    const at = one.getBoundingClientRect(), from = holder.getBoundingClientRect();
    return [at.left + at.width / 2 - from.left, at.top + at.height / 2 - from.top];
  };
  const nearest = (place, spot) => {
    const far = (one) => Math.hypot(...middle(one, place).map((at, axis) => at - spot[axis]));
    const seen = [...place.querySelectorAll(FOCUSABLE)].filter((one) => one.checkVisibility() && !one.matches(".asks-first"));
    return seen.map((one) => [far(one), one]).sort(([one], [other]) => one - other)[0]?.[1];
  };
  // Its like, or what can be focused beside it and deletes nothing.
  const refocus = () => {
    if (!byKeys || !held || document.activeElement !== document.body || (held.isConnected && held.checkVisibility() && !held.disabled)) return;
    const inside = ([place, spot]) =>
      like(place) || place.querySelector("[id$='-box'] textarea") || nearest(place, spot);
    const found = above.filter(([one]) => one.isConnected && one.checkVisibility()).map(inside).find(Boolean);
    held = null;
    found?.focus({preventScroll: true});
  };
  new MutationObserver(() => {
    if (byKeys) requestAnimationFrame(refocus);
  }).observe(document, {childList: true, subtree: true, attributes: true, attributeFilter: ["class", "style", "disabled", "hidden"]});
})();
