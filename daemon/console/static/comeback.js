// Looks whether the daemon is back, and shows the page again when it is; what a button asked for is not asked again.

const { back } = document.getElementById("comeback").dataset;

async function look() {
  try {
    const answer = await fetch(back, { headers: { Accept: "text/html" } });
    if (answer.status !== 503) { location.replace(back); return; }
  } catch (error) {
    console.debug("the console does not answer", error);
  }
  setTimeout(look, 3000);
}
setTimeout(look, 3000);
