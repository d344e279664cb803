// Shows the AsyncAPI document. Parts can be switched off in the address: ?sidebar=false&schemas=false
(function () {
  "use strict";
  var me = document.currentScript;
  var query = new URLSearchParams(window.location.search);

  function shown(name) {
    return !/^(false|0|no|off)$/i.test(query.get(name) || "");
  }

  var show = {};
  ["sidebar", "info", "servers", "operations", "messages", "schemas", "errors"].forEach(function (name) {
    show[name] = shown(name);
  });
  show.messageExamples = true;

  document.body.style.margin = "0";
  AsyncApiStandalone.render(
    {
      schema: { url: new URL(me.dataset.schemaUrl, window.location.href).href },
      config: { show: show, expand: { messageExamples: shown("expandMessageExamples") } }
    },
    document.getElementById("asyncapi")
  );
})();
