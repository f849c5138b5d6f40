// Conversations in and out: files to keep or to carry elsewhere, files of this page, of ChatGPT and of Open WebUI,
// share links, and moving into a login. Files are read here in the browser: they go to no server on the way.
(() => {
  const MOST_BYTES = 512 * 2 ** 20, MOST = 20_000, MOST_TURNS = 4000, LONGEST = 1_000_000;
  const text = (value) => (typeof value === "string" ? value : "").slice(0, LONGEST);
  const list = (value) => Array.isArray(value) ? value : [];
  const table = (value) => value && typeof value === "object" && !Array.isArray(value) ? value : {};
  const seconds = (value) => typeof value === "number" && value > 0 ? Math.round(value < 1e11 ? value * 1000 : value) : Date.now();
  const idOf = (value) => text(value).replace(/[^\w.-]/g, "").slice(0, 60);

  // Messages by id with their parents, as both others keep them, to turns: what is nothing to read is passed over, and
  // its children belong to what stood before it; an answer in several pieces becomes one.
  const tree = (messages, leaf, turnOf) => {
    const children = new Map(), turns = [], named = new Map([["", ""]]);
    for (const [id, message] of messages) {
      const parent = messages.has(message.parent) && message.parent !== id ? message.parent : "";
      children.set(parent, [...(children.get(parent) || []), id]);
    }
    const waiting = (children.get("") || []).map((id) => [id, null]).reverse();
    const reached = new Set();
    while (waiting.length) {
      const [id, above] = waiting.pop();
      if (reached.has(id)) continue;
      reached.add(id);
      const turn = turnOf(messages.get(id)), below = children.get(id) || [];
      let kept = above;
      if (turn && above?.role === "assistant" && turn.role === "assistant" && above.alone) {
        above.content = [above.content, turn.content].filter(Boolean).join("\n\n");
        above.reasoning = [above.reasoning, turn.reasoning].filter(Boolean).join("\n\n");
      } else if (turn) {
        kept = {...turn, id: idOf(id) || String(turns.length), parent: above?.id || ""};
        turns.push(kept);
      }
      if (kept) Object.defineProperty(kept, "alone", {value: below.length === 1, writable: true, configurable: true});
      named.set(id, kept?.id || "");
      for (const child of [...below].reverse()) waiting.push([child, kept]);
    }
    const whole = turns.filter((turn) => turn.content || turn.role === "user");
    return {turns: whole, leaf: named.get(leaf) || whole.at(-1)?.id || ""};
  };

  // ChatGPT: a `mapping` of nodes, the last one shown in `current_node`.
  const CITED = /\ue200[^\ue201]*\ue201|【[^】]*†[^】]*】/g;
  const partOf = (part) => typeof part === "string" ? part : text(part?.text);
  const chatgptTurn = ({message}) => {
    const role = message?.author?.role, content = table(message?.content), kind = content.content_type;
    if (!["user", "assistant"].includes(role) || message.metadata?.is_visually_hidden_from_conversation) return null;
    if (role === "assistant" && message.recipient && message.recipient !== "all") return null; // a call of a tool
    const turn = {role, content: "", model: text(message.metadata?.model_slug)};
    if (kind === "thoughts") turn.reasoning = list(content.thoughts).map((one) => text(one?.content) || text(one?.summary)).join("\n\n");
    else if (kind === "code") turn.content = "```\n" + text(content.text) + "\n```";
    else if (kind === "text" || kind === "multimodal_text") turn.content = list(content.parts).map(partOf).filter(Boolean).join("\n\n").replace(CITED, "");
    return turn.content || turn.reasoning ? turn : null;
  };
  const chatgpt = (one) => {
    const nodes = new Map(Object.entries(one.mapping).map(([id, node]) => [id, {parent: node?.parent || "", message: node?.message}]));
    return {
      id: idOf(one.conversation_id || one.id), title: text(one.title), updated: seconds(one.update_time || one.create_time),
      pinned: one.is_starred === true, ...tree(nodes, one.current_node, chatgptTurn),
    };
  };

  // Open WebUI: messages by id in `history`, or in earlier versions in a row; reasoning in a fold before the answer.
  const REASONED = /<details type="reasoning"[^>]*>\s*(?:<summary>[\s\S]*?<\/summary>)?([\s\S]*?)<\/details>\s*/g;
  const plain = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent;
  const openWebuiTurn = (message) => {
    if (!["user", "assistant"].includes(message.role)) return null;
    const said = typeof message.content === "string" ? text(message.content) : list(message.content).map(partOf).filter(Boolean).join("\n\n");
    const reasoning = [...said.matchAll(REASONED)].map(([, inner]) => plain(inner.replace(/^\s*(>|&gt;) ?/gm, "")).trim()).join("\n\n");
    const content = message.role === "assistant" ? said.replace(REASONED, "").trim() : said;
    return content || reasoning ? {role: message.role, content, reasoning, model: text(message.model)} : null;
  };
  const openWebui = (one) => {
    const chat = table(one.chat || one), stored = table(table(chat.history).messages);
    const rows = Object.keys(stored).length ? Object.entries(stored) : list(chat.messages).map((message, at) => [message?.id || String(at), {parentId: at ? list(chat.messages)[at - 1]?.id || String(at - 1) : "", ...message}]);
    const messages = new Map(rows.map(([id, message]) => [id, {...table(message), parent: message?.parentId || ""}]));
    return {
      id: idOf(one.id || chat.id), title: text(one.title || chat.title), updated: seconds(one.updated_at || one.created_at || chat.timestamp),
      pinned: one.pinned === true, ...tree(messages, chat.history?.currentId, openWebuiTurn),
    };
  };

  // Our own: a whole record, or the messages alone.
  const ours = (one) => {
    const listed = list(one.turns).length ? one.turns : list(one.messages);
    const turns = listed.filter((turn) => ["user", "assistant"].includes(turn?.role) && typeof turn.content === "string");
    const named = turns.map((turn, at) => ({...turn, content: text(turn.content), id: idOf(turn.id) || `m${at}`}));
    return {
      id: idOf(one.id), title: text(one.title), updated: seconds(one.updated), pinned: one.pinned === true, folder: text(one.folder).slice(0, 60),
      named: one.named === true, settings: table(one.settings), leaf: idOf(one.leaf), turns: named,
    };
  };
  const formOf = (one) => one?.mapping ? chatgpt : one?.chat || one?.history?.messages ? openWebui : one?.turns || one?.messages ? ours : null;

  // Records of whatever a file holds; those that cannot be read are counted.
  const read = (source) => {
    const told = JSON.parse(source), all = Array.isArray(told) ? told : list(told?.conversations).length ? told.conversations : [told];
    const records = [];
    let unread = Math.max(0, all.length - MOST);
    for (const one of all.slice(0, MOST)) {
      let record = null;
      try {
        record = formOf(one)?.(one);
      } catch { /* not what it seemed to be */ }
      if (!record?.turns.length) unread++;
      else {
        if (record.turns.length > MOST_TURNS) record.turns = window.studio.turns.path(record).slice(-MOST_TURNS);
        record.title = window.studio.conversations.brief(record.title || record.turns[0].content);
        records.push({settings: {}, ...record, id: record.id || window.studio.conversations.name()});
      }
    }
    return {records, unread};
  };

  const stored = async (records, into, change, word) => {
    let done = 0, skipped = 0;
    for (const record of records) {
      const made = await into.update(record.id, (old) => change(record, old));
      if (made) {
        window.studio.list.note(made);
        done++;
      } else skipped++;
      if ((done + skipped) % 50 === 0) window.studio.say(`${word} ${done + skipped} / ${records.length}`);
    }
    return {done, skipped};
  };
  const fresh = (record, old) => old && !old.gone ? undefined : record;
  const together = (record, old) => {
    const {nodes} = window.studio.turns, turns = [...nodes(old), ...nodes(record)];
    return old && !old.gone ? {...old, turns: [...new Map(turns.map((turn) => [turn.id, turn])).values()]} : {...record, revision: old?.revision};
  };
  // ChatGPT gives its export as a ZIP file, large ones with the conversations in several parts.
  const CONVERSATIONS = /(^|\/)conversations[\w-]*\.json$/;
  const sourcesOf = async (file) => {
    const {archives} = window.studio;
    if (await archives.isArchive(file)) return archives.texts(file, CONVERSATIONS, MOST_BYTES);
    if (file.size > MOST_BYTES) throw new RangeError();
    return [await file.text()];
  };
  const take = async (file, told) => {
    try {
      const found = (await sourcesOf(file)).map(read), records = found.flatMap((one) => one.records);
      const unread = found.reduce((sum, one) => sum + one.unread, 0);
      if (!records.length) throw new SyntaxError();
      const {done, skipped} = await stored(records, window.studio.storage.conversations, fresh, told.import);
      const parts = [[told.imported, done], [told.already_here, skipped], [told.not_read, unread]];
      window.studio.say(parts.filter(([, count], at) => count || !at).map(([words, count]) => words.replace("{count}", count)).join(" "));
    } catch (error) {
      if (error instanceof RangeError) window.studio.say(told.file_too_large);
      else if (error instanceof SyntaxError || error instanceof TypeError) window.studio.say(told.no_conversations);
      else window.studio.say(error.message);
    }
  };

  const asMarkdown = (record, told) => {
    const parts = window.studio.turns.path(record).map((turn) => {
      const pictures = list(turn.pictures).map((picture) => `![](data:image/jpeg;base64,${picture})\n\n`).join("");
      return `**${turn.role === "user" ? told.me : told.assistant}**\n\n${pictures}${turn.content}`;
    });
    return [`# ${record.title}`, ...parts].join("\n\n") + "\n";
  };
  // `messages` as the `/chat` endpoint takes them for history; the rest is for this page.
  const asJson = ({revision, seen, ...record}) => ({
    title: record.title, messages: window.studio.turns.path(record).map(({role, content}) => ({role, content})), ...record,
  });
  const nameOf = (title, kind) => `${title.replace(/[\\/:*?"<>|\x00-\x1f]+/g, " ").replace(/^[ .…]+|[ .…]+$/g, "") || "chat"}.${kind}`;

  window.studio.transfer = {
    read,
    choose(told) {
      const input = window.studio.make("input", {type: "file", id: "chat-import", accept: ".json,.zip,application/json,application/zip", hidden: true});
      input.onchange = async () => {
        if (input.files[0]) await take(input.files[0], told);
        input.remove();
      };
      input.oncancel = () => input.remove();
      document.body.append(input);
      input.click();
    },
    async save(ids, kind, told) {
      const records = [];
      for (const id of ids) {
        const record = await window.studio.storage.conversations.read(id);
        if (record?.turns?.length) records.push(record);
      }
      if (!records.length) return;
      const all = ids.length > 1;
      const content = kind === "md" ? records.map((record) => asMarkdown(record, told)).join("\n---\n\n")
        : JSON.stringify(all ? {conversations: records.map(asJson)} : asJson(records[0]), null, 2) + "\n";
      window.studio.give(nameOf(all ? told.conversations : records[0].title, kind), content);
    },
    async share(id, told) {
      const {link, read: kept} = window.studio.storage.conversations;
      try {
        let {key} = await link(id);
        if (!key) {
          if ((await window.studio.ask({title: told.share, info: told.share_info, yes: told.share_make, value: null})) === null) return;
          const record = await kept(id);
          ({key} = await link(id, "PUT", {title: record.title, turns: window.studio.turns.path(record)}));
        }
        const address = new URL(`shared/${key}`, location.origin + location.pathname).href;
        const answer = await window.studio.ask({title: told.share, info: told.share_there, value: address, fixed: true, yes: told.share_copy, other: told.share_withdraw});
        if (answer === "other") await link(id, "DELETE");
        else if (answer !== null) await navigator.clipboard?.writeText(address);
        if (answer !== null) window.studio.say(answer === "other" ? told.share_gone : told.share_copied);
      } catch (error) {
        window.studio.say(error.message);
      }
    },
    async moveIn(told) {
      const {browser, conversations} = window.studio.storage;
      try {
        for (const {id} of await browser.list()) {
          const record = await browser.read(id);
          if (record) await stored([record], conversations, together);
          await browser.forget(id);
        }
        await window.studio.presets.moveIn();
        window.studio.say(told.moved_in);
      } catch (error) {
        window.studio.say(error.message);
      }
    },
  };
})();
