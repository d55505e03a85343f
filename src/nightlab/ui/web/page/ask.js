// Requests to the server.

/** The server's response. Throws an Error with its message, which includes the hint. */
export async function ask(path) {
  return answer(await fetch(path, { headers: { accept: "application/json" } }));
}

export async function tell(path, what) {
  const headers = { "content-type": "application/json", "x-nightlab": "window" };
  return answer(await fetch(path, { method: "POST", headers, body: JSON.stringify(what) }));
}

async function answer(response) {
  const said = await response.text();
  let told = null;
  try {
    told = JSON.parse(said);
  } catch {
    // A proxy's error page, or plain text from the access control.
  }
  if (response.ok && told) return told;
  throw new Error([told?.message ?? said.slice(0, 300), told?.mend].filter(Boolean).join(". ") || `the server returned ${response.status}`);
}
