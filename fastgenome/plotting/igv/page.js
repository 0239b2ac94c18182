"use strict";
// Opens igv.js on the data of the page; `window.fastgenome` then holds its browser, or the error.
(async () => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const place = document.getElementById("browser");
  try {
    const browser = await igv.createBrowser(place, page.config);
    const regions = document.getElementById("regions");
    for (const region of page.regions) {
      const button = document.createElement("button");
      button.textContent = region;
      button.addEventListener("click", () => browser.search(region));
      regions.append(button);
    }
    window.fastgenome = { browser };
  } catch (error) {
    place.textContent = "This page cannot be drawn: " + error.message;
    window.fastgenome = { error: String(error) };
    throw error;
  }
})();
