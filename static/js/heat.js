// Tooltip of tokens, by pointer and by arrow keys. Values ride on the row; labels on the template.
let tip = null;
let twin = null;
let held = null;

function parts(token) {
  const row = token.closest("[data-a]");
  const text = token.closest(".tx");
  if (!row || !text) return null;
  const place = Array.prototype.indexOf.call(text.children, token);
  return { row, text, place };
}

function labels() {
  return document.getElementById("tip-labels")?.content.firstElementChild;
}

function shape(token) {
  return [...token.childNodes].map((node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    if (node.matches(".n")) return "↵";
    if (node.matches(".t")) return "⇥";
    if (node.matches(".x")) return `[${node.dataset.x}]`;
    return "∅";
  }).join("");
}

function build(token) {
  const found = parts(token);
  const template = labels();
  if (!found || !template || found.place < 0) return null;
  const { row, place } = found;
  const other = row.dataset.b?.split(",")[place];
  const value = Number(row.dataset.a.split(",")[place] || 0);
  const number = new Intl.NumberFormat(document.documentElement.lang, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const share = new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 });
  const box = template.cloneNode(true);
  const fill = (name, text) => {
    const slot = box.querySelector(`[data-tip="${name}"]`);
    if (slot) slot.textContent = text === "?" ? slot.dataset.failed : text;
  };
  fill("token", shape(token));
  fill("value", number.format(value));
  fill("share", share.format(Number(row.dataset.max) ? value / Number(row.dataset.max) : 0));
  fill("position", String(Number(row.dataset.start) + place));
  fill("id", row.dataset.ids?.split(",")[place] ?? "");
  fill("other", other === "?" ? "?" : number.format(Number(other || 0)));
  return box;
}

function show(token) {
  hide();
  const box = build(token);
  if (!box) return;
  tip = box;
  twin = twinOf(token);
  twin?.classList.add("twin");
  document.body.append(tip);
  const area = token.getClientRects()[0];
  if (!area) return hide();
  const size = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(area.left + area.width / 2 - size.width / 2, innerWidth - size.width - 8));
  const above = area.top - size.height - 6;
  tip.style.left = `${Math.round(left)}px`;
  tip.style.top = `${Math.round(above > 52 ? above : area.bottom + 6)}px`;
}

function hide() {
  tip?.remove();
  twin?.classList.remove("twin");
  tip = twin = null;
}

// The same token in the other heat map of a row that has two.
function twinOf(token) {
  const { row, text, place } = parts(token);
  const texts = [...row.querySelectorAll(".tx")];
  return texts.find((each) => each !== text)?.children[place] ?? null;
}

function tokenAt(target) {
  const token = target.closest?.(".tx > *");
  return token && token.closest("[data-a]") ? token : null;
}

document.addEventListener("pointerover", (event) => {
  const token = tokenAt(event.target);
  if (token) show(token);
  else if (!held) hide();
});
document.addEventListener("scroll", hide, { passive: true, capture: true });

function hold(token) {
  held?.classList.remove("on");
  held = token;
  if (!token) return hide();
  token.classList.add("on");
  token.scrollIntoView({ block: "nearest" });
  requestAnimationFrame(() => requestAnimationFrame(() => token === held && show(token)));
}

function walk(row, step) {
  const items = [...row.querySelectorAll(".tx > *")];
  const now = items.indexOf(held);
  const start = items.findIndex((item) => item.classList.contains("p"));
  const next = now < 0 ? Math.max(0, start) : Math.min(items.length - 1, Math.max(0, now + step));
  hold(items[next]);
}

function move(row, step) {
  const rows = [...document.querySelectorAll(".ctx")];
  const place = row ? rows.indexOf(row) + step : 0;
  rows[Math.min(rows.length - 1, Math.max(0, place))]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable], dialog")) return;
  const row = document.activeElement?.closest?.(".ctx");
  switch (event.key) {
    case "j": case "k":
      if (!document.querySelector(".ctx")) return;
      move(row, event.key === "j" ? 1 : -1);
      break;
    case "ArrowRight": case "ArrowLeft":
      if (!row) return;
      walk(row, event.key === "ArrowRight" ? 1 : -1);
      break;
    case "Escape":
      if (!held) return;
      hold(null);
      break;
    default:
      return;
  }
  event.preventDefault();
});
document.addEventListener("focusout", (event) => {
  if (event.target.closest?.(".ctx") && held) hold(null);
});
