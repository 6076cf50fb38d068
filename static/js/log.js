// Logs stay at their newest line until the reader scrolls up.
for (const log of document.querySelectorAll(".log")) {
  let following = true;
  const follow = () => { if (following) log.scrollTop = log.scrollHeight; };
  log.addEventListener("scroll", () => {
    following = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
  }, { passive: true });
  new MutationObserver(follow).observe(log, { childList: true });
  follow();
}
