"use strict";
(() => {
  const EVERY = 3000, PATIENCE = 10000;
  const find = document.getElementById("find"), filter = document.getElementById("filter");
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
    const before = [...old.childNodes], after = [...fresh.childNodes];
    after.forEach((node, at) => (at < before.length ? become(before[at], node) : old.append(node)));
    before.slice(after.length).forEach((node) => node.remove());
  }

  function applyFilter() {
    const wanted = filter.value.trim().toUpperCase();
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

  find.hidden = false;
  filter.addEventListener("input", applyFilter);
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
