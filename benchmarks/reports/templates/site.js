// What asv's pages use of three libraries that no package of Python's has: stupidtable, flot's
// orderBars and md5. Its index.html takes this file in their place.

"use strict";

// A key in the browser's storage, of a regression that the reader has put aside: any text does.
window.md5 = text => text;

// Tables that sort by a click on a header with data-sort; comparisons by that attribute's value.
(() => {
    const COMPARE = {
        float: (a, b) => a - b,
        string: (a, b) => String(a).localeCompare(b),
    };

    jQuery.fn.stupidtable = function (comparisons) {
        return this.each((_, table) => {
            jQuery(table).data("comparisons", { ...COMPARE, ...comparisons });
            jQuery(table).on("click", "thead th", event => {
                jQuery(event.currentTarget).stupidsort();
            });
        });
    };

    jQuery.fn.stupidsort = function (direction) {
        const table = this.closest("table"), column = this.index();
        const compare = table.data("comparisons")?.[this.data("sort")];
        if (!compare)
            return this;
        direction ??= this.data("direction") === "asc" ? "desc" : "asc";
        const sign = direction === "asc" ? 1 : -1;
        const value = row => {
            const cell = row.cells[column];
            return cell.dataset.sortValue ?? cell.textContent;
        };
        const rows = table.find("> tbody > tr").get();
        rows.sort((a, b) => sign * compare(value(a), value(b)));
        table.children("tbody").append(rows);
        table.find("thead th").removeData("direction");
        this.data("direction", direction);
        table.trigger("aftertablesort", { column, direction });
        return this;
    };
})();

// Bars of several series, given as {bars: {order: number}}, side by side around their place.
jQuery.plot.plugins.push({
    name: "orderBars",
    version: "1",
    options: {},
    init(plot) {
        plot.hooks.processDatapoints.push((plot, series, datapoints) => {
            const barred = plot.getData().filter(each => each.bars.show && each.bars.order != null);
            const orders = barred.map(each => each.bars.order).sort((a, b) => a - b);
            const place = orders.indexOf(series.bars.order);
            if (!series.bars.show || place < 0)
                return;
            // flot draws from the left edge on, or around the middle
            const middle = series.bars.align === "center" ? 0.5 : 0;
            const shift = (place + middle - orders.length / 2) * series.bars.barWidth;
            const points = datapoints.points;
            for (let k = 0; k < points.length; k += datapoints.pointsize)
                if (points[k] !== null)
                    points[k] += shift;
        });
    },
});
