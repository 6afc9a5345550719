// The page: tabs, language, theme, the key, and what the server says about itself. The tabs are compare.js, search.js and people.js.

import { call, hasKey, onKeyWanted, setKey } from "./api.js";
import * as compare from "./compare.js";
import { bind, byId, icon, refresh, rove, say } from "./dom.js";
import { currentLanguage, setLanguage, t } from "./i18n.js";
import { openPage } from "./intake.js";
import { clearNotices, errorNotice } from "./notices.js";
import * as people from "./people.js";
import * as search from "./search.js";

const TABS = ["compare", "search", "people"];
const TAKERS = { compare: compare.addPhotos, search: search.searchPhoto, people: people.takePhotos };
const THEMES = ["auto", "light", "dark"];

const tab = (name) => byId(`tab-${name}`);
let current = "compare";

function openTab(name) {
  current = name;
  for (const one of TABS) {
    tab(one).setAttribute("aria-selected", String(one === name));
    tab(one).tabIndex = one === name ? 0 : -1;
    byId(`panel-${one}`).hidden = one !== name;
  }
  if (name === "people") people.shownPeople();
  history.replaceState(null, "", name === "compare" ? location.pathname : `#${name}`);
}

function openTabs() {
  for (const name of TABS) tab(name).addEventListener("click", () => openTab(name));
  rove(document.querySelector("[role=tablist]"), () => TABS.map(tab), (chosen) => openTab(chosen.id.slice("tab-".length)));
  const fromAddress = () => openTab(TABS.find((name) => location.hash === `#${name}`) ?? "compare");
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

/** The texts that index.html holds in English become live. */
function openTexts() {
  for (const element of document.querySelectorAll("[data-t]")) bind(element, "text", () => t(element.dataset.t));
  for (const element of document.querySelectorAll("[data-t-aria-label]")) {
    bind(element, "aria-label", () => t(element.dataset.tAriaLabel));
  }
}

function openLanguages() {
  const buttons = [...document.querySelectorAll("[data-language]")];
  const show = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      setLanguage(button.dataset.language);
      show();
      say(t("language.changed"));
    });
  }
  show();
}

function openTheme() {
  const button = byId("theme");
  const root = document.documentElement;
  const show = () => {
    const theme = root.dataset.theme ?? "auto";
    button.replaceChildren(icon(theme));
    bind(button, "aria-label", () => t(`theme.${theme}`));
    bind(button, "title", () => t(`theme.${theme}`));
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("faceembed.theme", next);
    } catch {
      // Storage is switched off: the choice holds until the page is closed.
    }
    show();
  });
  show();
}

/** One dialog for all calls that wait for the key. */
function openKey() {
  const dialog = byId("key-dialog");
  const value = byId("key-value");
  let waiting = null;
  const ask = ({ wrong }) => {
    waiting ??= new Promise((resolve) => {
      bind(byId("key-wrong"), "text", () => (wrong ? t("key.wrong") : ""));
      value.value = "";
      dialog.returnValue = "";
      dialog.showModal();
      dialog.addEventListener("close", () => {
        waiting = null;
        resolve(dialog.returnValue === "ok" ? value.value : null);
        value.value = "";
        byId("key").hidden = false;
      }, { once: true });
    });
    return waiting;
  };
  onKeyWanted(ask);
  byId("key").addEventListener("click", async () => {
    const given = await ask({ wrong: false });
    if (given === null) return;
    setKey(given);
    learn();
  });
}

async function learn() {
  const notices = byId("notice-server");
  clearNotices(notices);
  try {
    const health = await call("api/v1/health");
    compare.learnServer(health);
    search.learnServer(health);
    people.learnServer(health);
    if (current === "people") people.shownPeople();
    byId("key").hidden = !(health.key_required || hasKey());
    bind(byId("model"), "text", () => modelText(health));
  } catch (error) {
    errorNotice(notices, error, learn);
  }
}

function modelText(health) {
  const facts = [
    t("footer.encoder", { name: health.encoder }),
    t("footer.aligner", { name: health.aligner }),
    `${health.runtime} ${health.precision} · ${health.device}`,
  ];
  if (health.index) facts.push(t("footer.index", { n: health.index.faces }));
  if (health.people) facts.push(t("footer.people", { n: health.people }));
  facts.push(`faceembed ${health.version}`);
  return facts.join(" · ");
}

openTexts();
people.openPeople();
openTabs();
openLanguages();
openTheme();
openKey();
compare.openCompare();
search.openSearch();
openPage((files) => TAKERS[current](files));
refresh();
learn();
