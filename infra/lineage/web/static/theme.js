// Light, dark, or as the system has it. Loaded before anything is drawn, so that no page flashes.
(() => {
  const names = ["system", "light", "dark"];
  const read = () => {
    try {
      const stored = localStorage.getItem("theme");
      return names.includes(stored) ? stored : "system";
    } catch {
      return "system"; // storage may be refused; the system's scheme then holds
    }
  };
  const apply = (name) => {
    document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    if (button) {
      button.querySelector("span").textContent = name;
      button.setAttribute("aria-label", `Theme: ${name}. Change it`);
    }
    document.dispatchEvent(new Event("themechange"));
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    apply(read());
    button.addEventListener("click", () => {
      const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
      try {
        localStorage.setItem("theme", next);
      } catch {
        // for this page only
      }
      apply(next);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(read()));
  });
})();
