// Before the first paint: the remembered theme and language, so that the page neither flashes nor is read out in the wrong
// language. It knows nothing else; app.js does the rest. A classic script, because modules run only after parsing.
"use strict";
(() => {
  const read = (name) => {
    try {
      return localStorage.getItem(`faceembed.${name}`);
    } catch {
      return null; // storage is switched off: the system's theme and language are used
    }
  };
  const root = document.documentElement;
  const theme = read("theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const language = read("language") ?? navigator.language ?? "en";
  root.lang = language.toLowerCase().startsWith("ru") ? "ru" : "en";
})();
