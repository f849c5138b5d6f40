// Keep a page's stream of events (SSE) open while an event waits for its answer. The server ends the stream with its last
// answer, and gradio's client asks for another at an event that is accepted after it saw that end. What a page sends
// because of an answer may be accepted while the end is on its way, and would wait for the visitor's next click.
(() => {
  const usual = window.fetch.bind(window);
  const ANSWER = /^data: \{"msg":"process_completed","event_id":"([^"]+)"/, END = /^data: \{"msg":"close_stream"/;
  const unanswered = new Set(), ahead = new Set();  // events; `ahead`: answered before their sender was told their name
  let sending = 0, ending = null;  // `ending`: until gradio's client, which reads in microtasks, has seen an end

  async function send(place, options) {
    sending += 1;
    try {
      const response = await usual(place, options);
      const {event_id: event} = await response.clone().json().catch(() => ({}));
      await ending;
      if (event && !ahead.has(event)) unanswered.add(event);
      return response;
    } finally {
      sending -= 1;
      if (!sending) ahead.clear();
    }
  }

  async function listen(place, options) {
    const request = new Request(place, options), response = await usual(request.clone());
    if (!response.ok) return response;
    const {readable, writable} = new TransformStream(), writer = writable.getWriter();
    pass(response, request, writer).catch((error) => {
      unanswered.clear();  // the server drops what waits when nobody listens
      writer.abort(error);
    });
    return new Response(readable, {headers: response.headers});
  }

  async function pass(response, request, writer) {
    const encoder = new TextEncoder(), write = (message) => writer.write(encoder.encode(message));
    let stream = response, end = null;
    while (stream?.ok) {
      end = await passMessages(stream.body, write);
      stream = end && (sending || unanswered.size) ? await usual(request.clone()) : null;
    }
    if (end) await (ending = write(end).then(() => new Promise((seen) => setTimeout(seen))));
    await writer.close();
  }

  async function passMessages(body, write) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const messages = (rest + part.value).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        if (END.test(message)) return `${message}\n\n`;
        const answered = ANSWER.exec(message)?.[1];
        if (answered && !unanswered.delete(answered)) ahead.add(answered);
        await write(`${message}\n\n`);
      }
    }
    return null;
  }

  window.fetch = (place, options) => {
    const path = String(place.url ?? place).split("?")[0];
    if (path.endsWith("/queue/join")) return send(place, options);
    return path.endsWith("/queue/data") ? listen(place, options) : usual(place, options);
  };
})();
