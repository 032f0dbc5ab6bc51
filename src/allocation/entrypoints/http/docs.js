// Sends the forms of the page and shows what comes back.
for (const form of document.forms) {
  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const output = form.querySelector("output");
    const query = new URLSearchParams();
    const headers = new Headers();
    let path = form.dataset.path;
    let body;
    for (const [name, value] of new FormData(form)) {
      const [where, key] = name.split(":");
      if (where === "path") path = path.replace(`{${key}}`, encodeURIComponent(value));
      else if (where === "body") body = value;
      else if (value && where === "query") query.set(key, value);
      else if (value) headers.set(key, value);
    }
    if (body !== undefined) headers.set("Content-Type", "application/json");
    const address = query.size ? `${path}?${query}` : path;
    try {
      const answer = await fetch(address, { method: form.dataset.method, headers, body });
      const text = await answer.text();
      const json = (answer.headers.get("Content-Type") || "").includes("json");
      output.textContent = `${answer.status} ${answer.statusText}\n` + (json ? JSON.stringify(JSON.parse(text), null, 1) : text);
    } catch (failure) {
      output.textContent = `no answer: ${failure.message}`;
    }
  });
}
