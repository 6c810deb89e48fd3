"use strict";
(() => {
  const EVERY = 3000, PATIENCE = 10000;
  const filter = () => document.getElementById("filter");
  let loading = false;

  // Makes `old` what `fresh` is, touching only what differs: what is folded open, selected or focused stays so.
  function become(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    const ours = (name) => name === "open" || name === "hidden";
    for (const { name, value } of [...fresh.attributes])
      if (!ours(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes])
      if (!ours(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    if (old.id === "find") return;
    // By their ids where they have some: a section that comes or goes must not move the others' contents.
    const after = [...fresh.childNodes];
    const stays = new Set(after.map((node) => node.id).filter(Boolean));
    let before = old.firstChild;
    for (const node of after) {
      while (before && before.id && before.id !== node.id && !stays.has(before.id)) {
        const gone = before;
        before = before.nextSibling;
        gone.remove();
      }
      if (before && (before.id || "") === (node.id || "")) {
        const next = before.nextSibling;
        become(before, node);
        before = next;
      } else old.insertBefore(node, before);
    }
    while (before) {
      const gone = before;
      before = before.nextSibling;
      gone.remove();
    }
  }

  function applyFilter() {
    const wanted = filter().value.trim().toUpperCase();
    let found = 0;
    for (const row of document.querySelectorAll("tr[data-gstin]")) {
      const fits = row.dataset.gstin.includes(wanted);
      if (row.hidden === fits) row.hidden = !fits;
      found += fits;
    }
    const said = wanted ? found + " found" : "";
    const place = document.getElementById("found");
    if (place.textContent !== said) place.textContent = said;
    if (wanted) document.querySelectorAll("#gstins details").forEach((folded) => (folded.open = true));
  }

  async function refresh() {
    if (loading || document.hidden) return;
    loading = true;
    let stale = false;
    try {
      const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error("status " + answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      for (const part of ["main", "footer"])
        become(document.querySelector(part), fresh.querySelector(part));
      applyFilter();
    } catch {
      stale = true;
    }
    document.getElementById("stale").hidden = !stale;
    document.body.classList.toggle("old", stale);
    loading = false;
  }

  document.getElementById("find").hidden = false;
  document.addEventListener("input", (event) => event.target === filter() && applyFilter());
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
