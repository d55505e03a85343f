// Asking the server, and telling it something.

/** What the server says. Throws an Error with its message, which names the mend. */
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
    // A proxy's page, or the guard's plain words.
  }
  if (response.ok && told) return told;
  throw new Error([told?.message ?? said.slice(0, 300), told?.mend].filter(Boolean).join(". ") || `the server says ${response.status}`);
}
