// Keeps parts of a page up to date without moving what somebody reads or is about to press.

const EVERY = 3000;
const parts = () => [...document.querySelectorAll("[data-refresh]")];

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
      // The live page has a place of its own for that, below the last frame.
      if (answer.status === 503 && !document.getElementById("gone")) { location.reload(); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const next = fresh.querySelector(`[data-refresh="${part.dataset.refresh}"]`);
        const used = part.contains(document.activeElement) || part.querySelector("details[open]");
        if (next && !used && next.innerHTML !== part.innerHTML) part.innerHTML = next.innerHTML;
      }
    } catch (error) {
      console.debug("not refreshed", error);
    }
  }
  setTimeout(refresh, EVERY);
}
setTimeout(refresh, EVERY);
