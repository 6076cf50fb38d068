// Keys, copying, toasts and failures. Everything here is on top of pages that work without it.
import "./heat.js";

const words = () => document.getElementById("words")?.dataset ?? {};

export function toast(text) {
  const box = document.createElement("div");
  box.className = "toast";
  const span = document.createElement("span");
  span.textContent = text.replace(/\s+/g, " ").trim();
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "✕";
  close.setAttribute("aria-label", words().close ?? "Close");
  close.addEventListener("click", () => box.remove());
  box.append(span, close);
  document.getElementById("toasts")?.append(box);
  setTimeout(() => box.remove(), 8000);
}

// Keys: aria-keyshortcuts is both the announcement and the binding.
const typing = (element) => element?.closest("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  for (const element of document.querySelectorAll("[aria-keyshortcuts]")) {
    if (!element.getAttribute("aria-keyshortcuts").split(" ").includes(event.key)) continue;
    if (element.closest("[hidden]") || element.getAttribute("aria-disabled")) continue;
    event.preventDefault();
    if (element.matches("input, textarea, select")) {
      element.focus();
      element.select?.();
    } else {
      element.click();
    }
    return;
  }
});

// A fallback for browsers without invoker commands.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[commandfor]");
  if (!button || "commandForElement" in HTMLButtonElement.prototype) return;
  const dialog = document.getElementById(button.getAttribute("commandfor"));
  if (button.getAttribute("command") === "close") dialog?.close();
  else dialog?.showModal();
});

// Menus close when something else is chosen.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary")?.focus();
  }
});

// Copying: buttons copy a text or an element's text; a selection of tokens copies their exact text.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(words().copied ?? "Copied.");
  } catch {
    toast(words().failed ?? "");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  event.preventDefault();
  const from = button.dataset.copyFrom;
  if (!from) return copy(new URL(button.dataset.copy, location.href).href);
  const source = document.getElementById(from);
  if (source) copy(exactText(source));
});

// The text of tokens without the sign that opens a context.
function exactText(source) {
  const clone = source.cloneNode(true);
  clone.querySelector?.(".tx > .q:first-child")?.remove();
  if (clone.matches?.(".tx")) clone.querySelector(":scope > .q:first-child")?.remove();
  return clone.textContent;
}

document.addEventListener("copy", (event) => {
  const selection = document.getSelection();
  if (!selection || selection.rangeCount === 0 || selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  const start = range.startContainer.parentElement?.closest(".tx");
  if (!start || start !== range.endContainer.parentElement?.closest(".tx")) return;
  event.clipboardData.setData("text/plain", range.cloneContents().textContent);
  event.preventDefault();
});

// Forms that look again by themselves when a choice in them changes.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form?.requestSubmit();
});

// What comes in to be filled in or answered is focused at once.
document.addEventListener("htmx:after:swap", () => {
  const wanted = document.querySelector("[data-focus]");
  wanted?.removeAttribute("data-focus");
  wanted?.focus();
});

// Nothing fails silently.
function failed(event) {
  const ctx = event.detail?.ctx;
  if (ctx?.sourceElement?.hasAttribute(`hx-status:${ctx.response?.status}`)) return; // told in place
  const text = ctx?.text ?? "";
  const found = new DOMParser().parseFromString(text, "text/html").getElementById("toast-error");
  toast(found?.content.textContent || words().failed || "");
}
document.addEventListener("htmx:response:error", failed);
document.addEventListener("htmx:error", (event) => {
  if (event.detail?.error?.name === "AbortError") return;
  toast(words().offline ?? "");
});
