"use strict";
// Frames of the board take the height and the palette of their surroundings. A browser that keeps pages from the disk
// apart lets nobody see into the frame; it then scrolls by itself.
for (const frame of document.querySelectorAll("iframe.board")) {
  const fit = () => {
    const root = frame.contentDocument?.documentElement;
    if (!root) return;
    root.dataset.theme = document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
    root.style.setProperty("--paper", getComputedStyle(document.body).backgroundColor);
    root.style.overflowY = "hidden";
    root.querySelector("#theme")?.remove();
    root.querySelector("body").style.padding = "0";
    const resize = () => { frame.style.height = `${root.querySelector("body").offsetHeight}px`; };
    new ResizeObserver(resize).observe(root.querySelector("body"));
    resize();
  };
  frame.addEventListener("load", fit);
  // Another page in the frame is read from its beginning.
  frame.addEventListener("load", () => { if (frame.getBoundingClientRect().top < 0) frame.scrollIntoView(); });
  new MutationObserver(fit).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
  if (frame.contentDocument?.readyState === "complete") fit();
}
