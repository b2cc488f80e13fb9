"use strict";
// Asks for the page again every second and puts in the parts that changed. The sensor made and escaped all of it; nothing here
// makes markup of text. A part in which something is selected waits, and what was opened stays open.

const PAUSE = 1000;
const PAUSE_UNSEEN = 10000;

function busy(part) {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function keepOpen(old, fresh) {
  for (const details of fresh.querySelectorAll("details[id]")) {
    const before = document.getElementById(details.id);
    if (before !== null && old.contains(before)) details.open = before.open;
  }
}

async function refresh() {
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (old === null || busy(old)) continue;
      keepOpen(old, fresh);
      if (!old.isEqualNode(fresh)) old.replaceWith(document.adoptNode(fresh));
    }
    document.title = page.title;
    document.body.classList.remove("lost");
  } catch {
    document.body.classList.add("lost");
  }
  setTimeout(refresh, document.hidden ? PAUSE_UNSEEN : PAUSE);
}

setTimeout(refresh, PAUSE);
