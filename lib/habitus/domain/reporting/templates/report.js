"use strict";
(() => {
  const form = document.querySelector(".filters");
  const cases = [...document.querySelectorAll(".case")];
  const table = document.querySelector(".flags");
  const rows = table ? [...table.tBodies[0].rows] : [];
  const texts = new Map([...cases, ...rows].map((item) => [
    item,
    `${item.dataset.users} ${(item.querySelector("summary") ?? item).textContent}`.toLowerCase(),
  ]));
  const selects = [...form.querySelectorAll("select")];
  const box = form.elements.search;

  // All the words are in an item, or, in quotes, a user's whole name.
  const told = (item) => {
    const user = /^"(.*)"$/.exec(box.value);
    if (user) return item.dataset.users.split("\n").includes(user[1]);
    return box.value.toLowerCase().split(/\s+/).every((word) => texts.get(item).includes(word));
  };
  // It has some of the values that a filter allows, for every filter.
  const fits = (item) =>
    told(item) && selects.every(({ name, value }) => {
      const allowed = value.split(" ");
      return !value || item.dataset[name].split(" ").some((one) => allowed.includes(one));
    });
  const show = (items) => {
    for (const item of items) item.hidden = !fits(item);
    return items.filter((item) => !item.hidden).length;
  };
  const filter = () => {
    const [some, of] = [show(cases), show(rows)];
    form.querySelector("output").textContent =
      `${some} of ${cases.length} cases, ${of} of ${rows.length} flags shown`;
    const none = document.querySelector("#none");
    if (none) none.hidden = some > 0;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = cases.length + rows.length === 0;
  filter();

  // What is in a case is made when it is first opened.
  const unfold = (item) => {
    const text = item.querySelector('script[type="text/html"]');
    if (text) text.outerHTML = text.textContent;
    item.open = true;
  };
  document.addEventListener("toggle", ({ target }) => {
    if (target.open && target.matches(".case")) unfold(target);
  }, true);

  // A user's name anywhere shows what is of this user; a case's number opens the case.
  const open = () => {
    const target = location.hash.startsWith("#case-") && document.querySelector(location.hash);
    if (!target) return;
    if (target.hidden) {
      form.reset();
      filter();
    }
    unfold(target);
    target.scrollIntoView();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link?.dataset.user !== undefined) {
      form.reset();
      box.value = `"${link.dataset.user}"`;
      filter();
    } else if (link && link.hash === location.hash) setTimeout(open);
  });
  addEventListener("hashchange", open);
  open();

  const bulk = document.querySelector(".bulk");
  if (bulk) {
    bulk.hidden = false;
    bulk.addEventListener("click", ({ target }) => {
      if (target.dataset.open === undefined) return;
      for (const item of cases) {
        if (item.hidden) continue;
        if (target.dataset.open) unfold(item);
        else item.open = false;
      }
    });
    document.querySelector("#order").addEventListener("change", ({ target }) => {
      const order = target.value ? [...cases].sort((a, b) => a.dataset.p - b.dataset.p) : cases;
      document.querySelector("#queue").append(...order);
    });
  }
  // Paper has no buttons: what is shown is printed in full.
  addEventListener("beforeprint", () => {
    for (const item of cases) if (!item.hidden) unfold(item);
  });

  if (!table) return;
  const value = (row, column) => {
    const { sort } = row.cells[column].dataset;
    return sort === undefined ? row.cells[column].textContent.trim() : Number(sort);
  };
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const column = head.cellIndex;
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      const order = typeof x === "number" ? x - y : x.localeCompare(y);
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
})();
