"use strict";
// Give each board frame the height of its content, and the background and palette of the page. Some browsers do not allow
// access to a frame if pages are opened from disk; the frame then scrolls, and its palette is that of site.css.
for (const frame of document.querySelectorAll("iframe.board")) {
  const fit = () => {
    const root = frame.contentDocument?.documentElement;
    if (!root) return;
    root.style.colorScheme = document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
    root.style.setProperty("--paper", getComputedStyle(document.body).backgroundColor);
    root.style.overflowY = "hidden";
    root.querySelector("body").style.padding = "0";
    const resize = () => { frame.style.height = `${root.querySelector("body").offsetHeight}px`; };
    new ResizeObserver(resize).observe(root.querySelector("body"));
    resize();
  };
  frame.addEventListener("load", fit);
  // Show a newly loaded page from its top.
  frame.addEventListener("load", () => { if (frame.getBoundingClientRect().top < 0) frame.scrollIntoView(); });
  new MutationObserver(fit).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
  if (frame.contentDocument?.readyState === "complete") fit();
}
