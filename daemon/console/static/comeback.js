// Looks whether the daemon is back, and shows the page again when it is.

async function look() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.status !== 503) { location.reload(); return; }
  } catch (error) {
    console.debug("the console does not answer", error);
  }
  setTimeout(look, 3000);
}
setTimeout(look, 3000);
